//! Volumes over HTTP. There is one provider, of directories; it cannot snapshot.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use host_api::{ProviderSpec, Timestamp, VolumeInfo};
use http::HeaderMap;
use kit_http::{ApiError, Json, wants_sse};

use super::{event_stream, not_kept};
use crate::host::Host;
use crate::volumes::{PROVIDER, VolumeError};

pub(super) async fn list(State(host): State<Arc<Host>>, headers: HeaderMap) -> Response {
    if wants_sse(&headers) {
        return event_stream(host.volumes.events(), |_| true);
    }
    Json(host.volumes.list().await).into_response()
}

pub(super) async fn get(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
) -> Result<Json<VolumeInfo>, ApiError> {
    host.volumes.get(&id).await.map(Json).ok_or_else(|| unknown(&id))
}

pub(super) async fn create(
    State(host): State<Arc<Host>>,
    Path(provider): Path<String>,
    body: Bytes,
) -> Result<Json<VolumeInfo>, ApiError> {
    if provider != PROVIDER {
        let message = format!("no volume provider with id {provider:?}");
        return Err(ApiError::object_not_found(message));
    }
    let info = match body.trim_ascii() {
        b"" | b"null" => VolumeInfo::default(),
        text => serde_json::from_slice(text).map_err(|_| ApiError::syntax())?,
    };
    let now = Timestamp::from(host.clock.wall());
    host.volumes.create(info, now).await.map(Json).map_err(volume_error)
}

pub(super) async fn destroy(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
) -> Result<(), ApiError> {
    let jobs = host.registry.list().await;
    let user = jobs.iter().map(|record| &record.active).find(|active| {
        !active.status.has_ended()
            && active.job.config.volumes.iter().any(|binding| binding.volume == id)
    });
    if let Some(user) = user {
        return Err(ApiError::conflict(format!("volume {id:?} is in use by job {}", user.job.id)));
    }
    host.volumes.destroy(&id).await.map_err(volume_error)
}

/// Providers are compiled in.
pub(super) async fn add_provider(
    Json(spec): Json<ProviderSpec>,
) -> Result<Json<ProviderSpec>, ApiError> {
    if spec.kind.is_empty() {
        return Err(ApiError::validation("kind", "must not be blank"));
    }
    if spec.id == PROVIDER {
        return Err(ApiError::object_exists(format!("provider {PROVIDER:?} already exists")));
    }
    Err(ApiError::validation_plain(format!("kind {:?} is not known", spec.kind)))
}

pub(super) async fn no_snapshot(State(host): State<Arc<Host>>, Path(id): Path<String>) -> ApiError {
    match host.volumes.get(&id).await {
        None => unknown(&id),
        Some(_) => ApiError::validation_plain(format!("provider {PROVIDER:?} cannot snapshot")),
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::object_not_found(VolumeError::Unknown(id.to_owned()).to_string())
}

fn volume_error(error: VolumeError) -> ApiError {
    match error {
        VolumeError::Unknown(_) => ApiError::object_not_found(error.to_string()),
        VolumeError::Exists(_) => ApiError::object_exists(error.to_string()),
        VolumeError::BadId => ApiError::validation("id", error),
        VolumeError::Store(error) => not_kept(&error),
        VolumeError::Io(_) => ApiError::internal(&error),
    }
}
