//! The servers themselves: who leads and votes, changes of that, the end of this one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Response};
use discoverd_api::{LastIndex, RaftLeader, RaftMember, Rebuild};
use http::header::CONNECTION;
use kit_http::{ApiError, Json};

use super::Context;
use super::refusal::{NotDone, Target, refused_change};
use crate::raft::Leadership;

pub(super) async fn leader(
    Shared(context): Shared<Arc<Context>>,
) -> Result<Json<RaftLeader>, ApiError> {
    match context.node.leadership() {
        Leadership::Me => Ok(Json(RaftLeader { host: context.node.addr().to_owned() })),
        Leadership::Other(host) => Ok(Json(RaftLeader { host })),
        Leadership::Unknown => Err(ApiError::service_unavailable("discoverd: no known leader")),
    }
}

pub(super) async fn list(Shared(context): Shared<Arc<Context>>) -> Json<Vec<String>> {
    Json(context.node.peers())
}

/// All servers that have the log, those without a vote too.
pub(super) async fn all(Shared(context): Shared<Arc<Context>>) -> Json<Vec<RaftMember>> {
    Json(context.node.roster())
}

pub(super) async fn add(
    Shared(context): Shared<Arc<Context>>,
    Path(peer): Path<String>,
    target: Target,
) -> Result<Json<LastIndex>, NotDone> {
    target.here(&context)?;
    context.node.add_peer(&peer).await.map_err(|error| target.unchanged(error))?;
    Ok(Json(last_index(&context)))
}

pub(super) async fn remove(
    Shared(context): Shared<Arc<Context>>,
    Path(peer): Path<String>,
    target: Target,
) -> Result<(), NotDone> {
    target.here(&context)?;
    context.node.remove_peer(&peer).await.map_err(|error| target.unchanged(error))
}

/// This server votes from now on; one that does already is fine.
pub(super) async fn promote(Shared(context): Shared<Arc<Context>>) -> Result<(), ApiError> {
    context.node.promote().await.map_err(|error| refused_change(&error))
}

/// This server follows without voting from now on; one that does already is fine.
pub(super) async fn demote(Shared(context): Shared<Arc<Context>>) -> Result<(), ApiError> {
    context.node.demote().await.map_err(|error| refused_change(&error))
}

/// This server ends, and the next one on its disk begins a new cluster with what is there.
pub(super) async fn rebuild(
    Shared(context): Shared<Arc<Context>>,
    Json(rebuild): Json<Rebuild>,
) -> Result<(), ApiError> {
    let Some(place) = &context.place else {
        return Err(ApiError::conflict("discoverd: this server keeps its log in no directory"));
    };
    let asked = context.node.ask_for_rebuild(&rebuild.lost, &place.directory).await;
    asked.map_err(|error| refused_change(&error))?;
    place.server.stop();
    Ok(())
}

/// Deregisters this server, ends everything but the process, answers with the log's last index.
pub(super) async fn shutdown(Shared(context): Shared<Arc<Context>>) -> impl IntoResponse {
    if let Some(registration) = context.registration.get() {
        registration.end().await;
    }
    context.closing.store(true, Ordering::Release);
    let last = last_index(&context);
    context.serving.stop();
    let answer: Response = Json(last).into_response();
    ([(CONNECTION, "close")], answer)
}

fn last_index(context: &Context) -> LastIndex {
    LastIndex { last_index: context.state.applied().0 }
}
