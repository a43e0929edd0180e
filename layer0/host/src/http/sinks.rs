//! Sinks over HTTP (spec/host.md §3).

use std::sync::Arc;

use axum::extract::{Path, State};
use host_api::{Sink, SinkInfo};
use kit_http::{ApiError, Json};
use serde_json::{Value, json};

use super::not_kept;
use crate::host::Host;
use crate::sinks::SinkError;

pub(super) async fn list(State(host): State<Arc<Host>>) -> Json<Vec<Sink>> {
    Json(host.sinks.list())
}

pub(super) async fn put(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
    Json(info): Json<SinkInfo>,
) -> Result<Json<SinkInfo>, ApiError> {
    match host.sinks.put(&id, info.clone()).await {
        Ok(()) => Ok(Json(info)),
        Err(error @ SinkError::Kind) => Err(ApiError::validation("kind", error)),
        Err(error @ SinkError::Config) => Err(ApiError::validation("config", error)),
        Err(error @ SinkError::TooMany) => Err(ApiError::conflict(error.to_string())),
        Err(SinkError::Store(error)) => Err(not_kept(&error)),
    }
}

pub(super) async fn remove(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    match host.sinks.remove(&id).await {
        Ok(true) => Ok(Json(json!({}))),
        Ok(false) => Err(ApiError::object_not_found("sink with that id couldn't be found")),
        Err(error) => Err(ApiError::internal(&error)),
    }
}
