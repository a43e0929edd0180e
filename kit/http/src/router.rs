//! What every service answers alike: request ids, the plain-text 404 for unknown paths and methods, and
//! panics that cost one request only.

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;
use tower_service::Service as _;
use tracing::Instrument as _;

use crate::error::ApiError;

/// A request's id for the logs: the client's `X-Request-ID`, or a fresh one. In the request's
/// extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Ids of clients longer than this are cut: they go into every log line of the request.
const REQUEST_ID_LIMIT: usize = 128;

/// Adds what no router may forget. Call it last, after all routes and layers.
pub fn finish<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.fallback(async || not_found()).method_not_allowed_fallback(async || not_found())
}

/// `404 page not found`, which is also the answer to a known path with another method.
pub fn not_found() -> Response {
    let headers =
        [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (StatusCode::NOT_FOUND, headers, "404 page not found\n").into_response()
}

/// Answers one request. It gets an id and a span that carries it; a panic is answered with 500.
pub(crate) async fn answer(router: &Router, mut request: http::Request<Incoming>) -> Response {
    let id = request_id(request.headers());
    let span = tracing::info_span!("request", %id, method = %request.method(), path = request.uri().path());
    request.extensions_mut().insert(RequestId(id));
    let mut router = router.clone();
    let answered = async move {
        // Called in here: a router may panic before there is anything to wait for.
        match AssertUnwindSafe(async move { router.call(request).await }).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => {
                let literal = panic.downcast_ref::<&str>().copied();
                let text = literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                tracing::error!(reason = text.unwrap_or("no message"), "request handler panicked");
                ApiError::unknown().into_response()
            }
        }
    };
    answered.instrument(span).await
}

/// The client's id, or a random one of the thread's generator, which asks the kernel seldom.
fn request_id(headers: &HeaderMap) -> String {
    match headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()) {
        Some(id) if !id.is_empty() => id.chars().take(REQUEST_ID_LIMIT).collect(),
        _ => uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string(),
    }
}
