//! The peer's HTTP API, one port above the database's (spec/appliances.md §4).

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use discoverd_api::Instance;
use kit_http::{Json, Status, finish, status_router};
use kit_tasks::{Running, Tasks};
use serde::Serialize;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::cluster::ClusterState;
use crate::peer::{Role, View};

/// Longer than the server's own grace for each way of stopping.
const STOP_GRACE: Duration = Duration::from_secs(1000);

#[derive(Debug, Serialize)]
struct Whole {
    peer: PeerPart,
    database: DatabasePart,
}

#[derive(Debug, Serialize)]
struct PeerPart {
    id: String,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    state: Option<ClusterState>,
    peers: Option<Vec<Instance>>,
}

#[derive(Debug, Serialize)]
struct DatabasePart {
    config: Option<ConfigPart>,
    running: bool,
    synced_downstream: Option<Instance>,
    xlog: String,
    user_exists: bool,
    read_write: bool,
}

#[derive(Debug, Serialize)]
struct ConfigPart {
    role: &'static str,
    upstream: Option<Instance>,
    downstream: Option<Instance>,
    state: Option<ClusterState>,
}

#[derive(Clone, Debug)]
struct Api {
    view: watch::Receiver<View>,
    server: Tasks,
}

/// Serves the API; `server` is the task node a stop order ends.
pub(crate) fn serve(
    tasks: &Tasks,
    listener: TcpListener,
    view: watch::Receiver<View>,
    server: Tasks,
    version: &str,
) -> std::io::Result<Running> {
    let for_health = view.clone();
    let health = move || {
        let view = for_health.borrow().clone();
        async move { health(&view) }
    };
    let router = Router::new()
        .route("/status", get(status))
        .route("/stop", post(stop))
        .with_state(Api { view, server })
        .merge(status_router(version, health));
    kit_http::serve(tasks, listener, finish(router))
}

async fn status(State(api): State<Api>) -> Json<Whole> {
    Json(Whole::of(api.view.borrow().clone()))
}

/// Answers once the server has ended.
async fn stop(State(api): State<Api>) -> impl IntoResponse {
    api.server.shutdown(STOP_GRACE).await;
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Unknown => "unknown",
        Role::Primary => "primary",
        Role::Unassigned => "unassigned",
    }
}

fn health(view: &View) -> Status {
    let well = view.running && view.report.user_exists && view.report.read_write;
    if view.role == Role::Primary && well {
        return Status::healthy();
    }
    Status::unhealthy(view.problem.clone().unwrap_or_else(|| "starting".to_owned()))
}

impl Whole {
    fn of(view: View) -> Self {
        let role = role_name(view.role);
        let peers = view.state.as_ref().map(|state| state.primary.iter().cloned().collect());
        let config = (view.role != Role::Unknown).then(|| ConfigPart {
            role: if view.role == Role::Primary { "primary" } else { "none" },
            upstream: None,
            downstream: None,
            state: view.state.clone(),
        });
        let database = DatabasePart {
            config,
            running: view.running,
            synced_downstream: None,
            xlog: view.report.xlog,
            user_exists: view.running && view.report.user_exists,
            read_write: view.running && view.report.read_write,
        };
        let peer = PeerPart { id: view.id, role, problem: view.problem, state: view.state, peers };
        Self { peer, database }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_decision_everything_is_unknown() {
        let text = serde_json::to_string(&Whole::of(View::default())).unwrap();
        assert_eq!(
            text,
            r#"{"peer":{"id":"","role":"unknown","state":null,"peers":null},"database":{"config":null,"running":false,"synced_downstream":null,"xlog":"","user_exists":false,"read_write":false}}"#
        );
    }
}
