//! Services: add, remove, watch.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::response::Response;
use discoverd_api::{ServiceConfig, ServiceName};
use discoverd_registry::Command;
use kit_http::{ApiError, Json};

use super::Context;
use super::refusal::{NotDone, Target};
use crate::hub::Kinds;
use crate::wire;

pub(super) async fn add(
    Shared(context): Shared<Arc<Context>>,
    Path(service): Path<String>,
    target: Target,
    config: Result<Json<ServiceConfig>, ApiError>,
) -> Result<(), NotDone> {
    let service: ServiceName = service.parse()?;
    let Json(config) = config?;
    target.here(&context)?;
    let election = wire::election(config);
    let command = Command::AddService { service: service.as_str().into(), election };
    context.node.propose(command).await.map(drop).map_err(|error| target.not_done(error))
}

pub(super) async fn remove(
    Shared(context): Shared<Arc<Context>>,
    Path(service): Path<String>,
    target: Target,
) -> Result<(), NotDone> {
    let service: ServiceName = service.parse()?;
    target.here(&context)?;
    let command = Command::RemoveService { service: service.as_str().into() };
    context.node.propose(command).await.map(drop).map_err(|error| target.not_done(error))
}

/// Always a stream, of any name: a service that does not exist yet may be waited for.
pub(super) async fn watch(
    Shared(context): Shared<Arc<Context>>,
    Path(service): Path<String>,
) -> Response {
    context.watch(&service, Kinds::All)
}
