//! The HTTP surface: routes, what every answer carries, and who may write.

mod instances;
mod leadership;
mod members;
mod meta;
mod refusal;
mod services;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use http::{HeaderName, HeaderValue};
use kit_http::{ApiError, BodyLimit, Status, sse};
use kit_tasks::Tasks;

use crate::hub::Kinds;
use crate::notify::Registration;
use crate::raft::{Age, Leadership, Node};
use crate::state::State;

/// The largest body read: metadata is a few kilobytes.
const BODY: usize = 1 << 20;

const PEERS: HeaderName = HeaderName::from_static("discoverd-peers");
const INDEX: HeaderName = HeaderName::from_static("discoverd-index");
const AGE: HeaderName = HeaderName::from_static("discoverd-age");

/// What handlers need.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) state: Arc<State>,
    pub(crate) node: Node,
    /// The part of the task tree that a shutdown ends.
    serving: Tasks,
    closing: AtomicBool,
    /// None where the log is in no directory.
    place: Option<Place>,
    /// The server's own registration, once it has one.
    pub(crate) registration: OnceLock<Registration>,
}

/// Where the log is, and what ends when it is to be opened anew.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) server: Tasks,
}

impl Context {
    pub(crate) fn new(
        state: Arc<State>,
        node: Node,
        serving: &Tasks,
        place: Option<Place>,
    ) -> Self {
        let (closing, registration) = (AtomicBool::new(false), OnceLock::new());
        Self { state, node, serving: serving.clone(), closing, place, registration }
    }

    /// The events of a service as an answer.
    fn watch(&self, service: &str, kinds: Kinds) -> Response {
        sse::response(self.state.subscribe(service, kinds).into_events())
    }
}

/// All routes.
pub(crate) fn router(context: Arc<Context>) -> Router {
    let healthy = Arc::clone(&context);
    let router = Router::new()
        .route(
            "/services/{service}",
            put(services::add).delete(services::remove).get(services::watch),
        )
        .route("/services/{service}/meta", put(meta::set).get(meta::show))
        .route("/services/{service}/instances", get(instances::list))
        .route(
            "/services/{service}/instances/{instance}",
            put(instances::add).delete(instances::remove),
        )
        .route("/services/{service}/leader", put(leadership::set).get(leadership::show))
        .route("/raft/leader", get(members::leader))
        .route("/raft/peers", get(members::list))
        .route("/raft/members", get(members::all))
        .route("/raft/peers/{peer}", put(members::add).delete(members::remove))
        .route("/raft/promote", post(members::promote))
        .route("/raft/demote", post(members::demote))
        .route("/raft/rebuild", post(members::rebuild))
        .route("/ping", get(async || ()))
        .route("/shutdown", post(members::shutdown))
        .merge(kit_http::status_router(env!("CARGO_PKG_VERSION"), move || {
            status(Arc::clone(&healthy))
        }))
        .with_state(Arc::clone(&context));
    kit_http::finish(router).layer(from_fn_with_state(context, wrap))
}

async fn status(context: Arc<Context>) -> Status {
    match context.node.leadership() {
        Leadership::Me | Leadership::Other(_) => Status::healthy(),
        Leadership::Unknown => Status::unhealthy("discoverd: no known leader"),
    }
}

/// Bounds the body, and adds the headers of every answer: the index of the state the request found, for how
/// many seconds no leader was heard where this server does not lead, and the voters. One layer: each is paid
/// for with every request.
async fn wrap(Shared(context): Shared<Arc<Context>>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(BodyLimit(BODY));
    let (index, age) = (context.state.applied(), context.node.age());
    let peers = context.node.peers().join(",");
    let mut response = if context.closing.load(Ordering::Acquire) {
        ApiError::service_unavailable("discoverd: shutting down").into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(INDEX, HeaderValue::from(index.0));
    match age {
        Age::Present => None,
        Age::Past(silent) => headers.insert(AGE, HeaderValue::from(silent.as_secs())),
        Age::Unknown => headers.insert(AGE, HeaderValue::from_static("unknown")),
    };
    if let Ok(peers) = HeaderValue::try_from(peers) {
        headers.insert(PEERS, peers);
    }
    response
}
