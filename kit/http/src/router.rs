//! What every router gets: request ids, the plain-text 404 for unknown paths and methods, and panics
//! that cost one request only.

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use tracing::Instrument as _;

use crate::error::ApiError;

/// A request's id for the logs: the client's `X-Request-ID`, or a fresh one. In the request's
/// extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Ids of clients longer than this are cut: they go into every log line of the request.
const REQUEST_ID_LIMIT: usize = 128;

/// Adds what no service may forget. Call it last, after all routes and layers.
pub fn finish<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(async || not_found())
        .method_not_allowed_fallback(async || not_found())
        .layer(from_fn(isolate))
        .layer(from_fn(identify))
}

/// `404 page not found`, which is also the answer to a known path with another method.
pub fn not_found() -> Response {
    let headers =
        [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (StatusCode::NOT_FOUND, headers, "404 page not found\n").into_response()
}

/// Gives the request its id and a span that carries it.
async fn identify(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = match given {
        Some(id) if !id.is_empty() => id.chars().take(REQUEST_ID_LIMIT).collect(),
        _ => uuid::Uuid::new_v4().to_string(),
    };
    let span = tracing::info_span!("request", %id, method = %request.method(), path = request.uri().path());
    request.extensions_mut().insert(RequestId(id));
    next.run(request).instrument(span).await
}

/// Answers a handler's panic with 500.
async fn isolate(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let literal = panic.downcast_ref::<&str>().copied();
            let text = literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            tracing::error!(reason = text.unwrap_or("no message"), "request handler panicked");
            ApiError::unknown().into_response()
        }
    }
}
