//! Metadata of services: compare-and-swap, show.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use discoverd_api::ServiceMeta;
use discoverd_registry::Answer;
use kit_http::{ApiError, Json};

use super::Context;
use super::refusal::{NotDone, Target};
use crate::wire;

pub(super) async fn set(
    Shared(context): Shared<Arc<Context>>,
    Path(service): Path<String>,
    target: Target,
    body: Result<Json<ServiceMeta>, ApiError>,
) -> Result<Json<ServiceMeta>, NotDone> {
    let Json(meta) = body?;
    target.here(&context)?;
    match context.node.propose(wire::set_meta(&service, &meta)).await {
        Ok(Answer::MetaStored(index)) => Ok(Json(ServiceMeta { index: index.0, ..meta })),
        Ok(Answer::Done) => Ok(Json(meta)),
        Err(error) => Err(target.not_done_once(error)),
    }
}

pub(super) async fn show(
    Shared(context): Shared<Arc<Context>>,
    Path(service): Path<String>,
) -> Result<Json<ServiceMeta>, NotDone> {
    let found = context.state.read(|registry| registry.meta(&service).map(wire::meta));
    found.map(Json).ok_or_else(|| NotDone::not_found("service meta not found"))
}
