//! The router's own HTTP API: how it is, and what happens.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use futures_util::{Stream, StreamExt as _, stream};
use kit_http::{Query, Status, sse};
use router_api::{Event, EventKind};
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::core::Facts;
use crate::events::Hub;
use crate::tcp::TcpRoutes;
use crate::worker::Worker;

/// What the API tells about.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) hub: Arc<Hub>,
    pub(crate) facts: Arc<Mutex<Facts>>,
    pub(crate) tcp: TcpRoutes,
    pub(crate) workers: Vec<Arc<Worker>>,
}

impl Api {
    pub(crate) fn router(self, version: &str) -> Router {
        let api = self.clone();
        let status = kit_http::status_router(version, move || {
            let status = api.status();
            async move { status }
        });
        kit_http::finish(status.route("/events", get(events)).with_state(self))
    }

    /// Running is healthy: sources that are away and bad routes are told, not held against it.
    fn status(&self) -> Status {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut detail = serde_json::to_value(facts).unwrap_or_default();
        let connections: usize = self.workers.iter().map(|worker| worker.connections()).sum();
        detail["connections"] = connections.into();
        detail["blocked_tcp_ports"] = serde_json::to_value(self.tcp.blocked()).unwrap_or_default();
        Status::healthy().with_detail(detail)
    }
}

#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(default)]
    types: String,
}

/// Only the kinds of events that are listed; unknown names match nothing.
async fn events(State(api): State<Api>, Query(wanted): Query<Wanted>) -> Response {
    let kinds: BTreeSet<EventKind> =
        wanted.types.split(',').filter_map(|name| name.trim().parse().ok()).collect();
    let (up, live) = api.hub.subscribe();
    let all = stream::iter(up.into_iter().map(Ok)).chain(live_events(live));
    sse::response(all.filter_map(move |event| {
        let sent = match event {
            Ok(event) if kinds.contains(&event.kind()) => Some(sse::Event::json(&event)),
            Ok(_) => None,
            Err(text) => Some(sse::Event::error(text)),
        };
        async move { sent }
    }))
}

/// What happens, until the client is too far behind.
fn live_events(live: Receiver<Event>) -> impl Stream<Item = Result<Event, &'static str>> {
    stream::unfold(Some(live), |live| async move {
        let mut live = live?;
        match live.recv().await {
            Ok(event) => Some((Ok(event), Some(live))),
            Err(RecvError::Lagged(_)) => Some((Err("event stream buffer overflow"), None)),
            Err(RecvError::Closed) => None,
        }
    })
}
