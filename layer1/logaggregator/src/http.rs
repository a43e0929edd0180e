//! The HTTP API: log, cursors, snapshot, status.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::StreamExt as _;
use kit_http::{ApiError, Json, Status, finish, status_router};
use kit_tasks::Tasks;

use crate::filter::Query;
use crate::store::Store;
use crate::{answer, snapshot};

/// Header names in the form axum takes them.
const CONTENT_TYPE: &str = "content-type";
const TEXT: &str = "text/plain; charset=utf-8";

/// What handlers share.
#[derive(Clone, Debug)]
struct Shared {
    store: Store,
    tasks: Tasks,
}

/// The routes. Followers' answers end when `tasks` are stopped.
pub(crate) fn router(store: Store, tasks: &Tasks, version: &str) -> Router {
    let shared = Shared { store, tasks: tasks.clone() };
    let routes = Router::new()
        .route("/log/{app}", get(log))
        .route("/cursors", get(cursors))
        .route("/snapshot", get(all))
        .with_state(shared)
        .merge(status_router(version, async || Status::healthy()));
    finish(routes)
}

async fn log(
    State(shared): State<Shared>,
    Path(app): Path<String>,
    kit_http::Query(pairs): kit_http::Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let query = Query::parse(&pairs)?;
    if query.is_following {
        let (backlog, live) = shared.store.follow(&app, &query);
        let stop = shared.tasks.stop_token().cancelled_owned();
        let body = Body::from_stream(answer::following(backlog, live).take_until(stop));
        return Ok(([(CONTENT_TYPE, TEXT)], body).into_response());
    }
    let lines = shared.store.read(&app, &query);
    if lines.is_empty() {
        return Ok(Body::empty().into_response());
    }
    Ok(([(CONTENT_TYPE, TEXT)], Body::from_stream(answer::lines(lines))).into_response())
}

async fn cursors(State(shared): State<Shared>) -> Response {
    Json(shared.store.cursors()).into_response()
}

async fn all(State(shared): State<Shared>) -> Response {
    let body = Body::from_stream(snapshot::body(shared.store.all()));
    ([(CONTENT_TYPE, snapshot::CONTENT_TYPE)], body).into_response()
}
