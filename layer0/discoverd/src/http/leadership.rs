//! Leaders of services: set by hand, show, watch.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse as _, Response};
use discoverd_api::LeaderChange;
use discoverd_registry::{Command, Election, Refusal};
use http::HeaderMap;
use kit_http::{ApiError, Json, wants_sse};

use super::Context;
use super::refusal::{NotDone, Target, refused};
use crate::hub::Kinds;
use crate::wire;

/// The kind of election is looked at first, in the local copy, before body and leadership.
pub(super) async fn set(
    Shared(context): Shared<Arc<Context>>,
    Path(service): Path<String>,
    target: Target,
    body: Result<Json<LeaderChange>, ApiError>,
) -> Result<(), NotDone> {
    let election = context.state.read(|registry| registry.election(&service));
    if election != Some(Election::Manual) {
        return Err(NotDone::Api(refused(&Refusal::NotManual)));
    }
    let Json(LeaderChange { id }) = body?;
    target.here(&context)?;
    let command = Command::SetLeader { service: service.into(), leader: id.as_str().into() };
    context.node.propose(command).await.map(drop).map_err(|error| target.not_done(error))
}

pub(super) async fn show(
    Shared(context): Shared<Arc<Context>>,
    Path(service): Path<String>,
    headers: HeaderMap,
) -> Result<Response, NotDone> {
    if wants_sse(&headers) {
        return Ok(context.watch(&service, Kinds::Leader));
    }
    let leader = context.state.read(|registry| registry.leader(&service).cloned());
    let leader = leader.ok_or_else(|| NotDone::not_found("no leader found"))?;
    Ok(Json(wire::instance(&leader)).into_response())
}
