//! Instances: register and keep alive, remove, list, watch.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse as _, Response};
use discoverd_api::Instance;
use discoverd_registry::Command;
use http::HeaderMap;
use kit_http::{AnyJson, ApiError, Json, wants_sse};

use super::Context;
use super::refusal::{NotDone, Target};
use crate::hub::Kinds;
use crate::wire;

/// A PUT that changes nothing is a heartbeat and enters no log. The id of the path is not looked at.
pub(super) async fn add(
    Shared(context): Shared<Arc<Context>>,
    Path((service, _)): Path<(String, String)>,
    target: Target,
    body: Result<AnyJson<Instance>, ApiError>,
) -> Result<(), NotDone> {
    let AnyJson(instance) = body?;
    instance.validate()?;
    target.here(&context)?;
    let (id, registration) = wire::registration(instance);
    if context.state.heartbeat(&service, id.as_str(), &registration) {
        return Ok(());
    }
    let command = Command::AddInstance { service: service.into(), id, registration };
    context.node.propose(command).await.map(drop).map_err(|error| target.not_done(error))
}

pub(super) async fn remove(
    Shared(context): Shared<Arc<Context>>,
    Path((service, id)): Path<(String, String)>,
    target: Target,
) -> Result<(), NotDone> {
    target.here(&context)?;
    let command = Command::RemoveInstance { service: service.into(), id: id.into() };
    context.node.propose(command).await.map(drop).map_err(|error| target.not_done(error))
}

pub(super) async fn list(
    Shared(context): Shared<Arc<Context>>,
    Path(service): Path<String>,
    headers: HeaderMap,
) -> Result<Response, NotDone> {
    if wants_sse(&headers) {
        return Ok(context.watch(&service, Kinds::Instances));
    }
    let found =
        context.state.read(|registry| registry.instances(&service).cloned().collect::<Vec<_>>());
    if found.is_empty() {
        return Err(NotDone::not_found(format!("service not found: {service:?}")));
    }
    let found: Vec<_> = found.iter().map(|instance| wire::instance(instance)).collect();
    Ok(Json(found).into_response())
}
