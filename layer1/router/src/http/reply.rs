//! Answers of the router itself, in the bytes of spec/router.md §4 and §7.

use std::sync::{PoisonError, RwLock};

use ::http::header::{CONNECTION, CONTENT_TYPE};
use ::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;

use super::ReplyBody;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// The pages an operator can replace.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    unavailable: RwLock<Option<Bytes>>,
}

impl Pages {
    /// From now on status 503 shows this page.
    pub(crate) fn set_unavailable(&self, page: Bytes) {
        *self.unavailable.write().unwrap_or_else(PoisonError::into_inner) = Some(page);
    }

    /// No backend, or none that answers.
    pub(crate) fn unavailable(&self) -> Response<ReplyBody> {
        let page = self.unavailable.read().unwrap_or_else(PoisonError::into_inner).clone();
        match page {
            Some(page) => answer(StatusCode::SERVICE_UNAVAILABLE, HTML, page),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n"),
        }
    }
}

/// No route for the host.
pub(crate) fn not_found() -> Response<ReplyBody> {
    text(StatusCode::NOT_FOUND, "Not Found\n")
}

/// A request that cannot be forwarded. The connection closes: what follows on it cannot be trusted.
pub(crate) fn bad_request(reason: &'static str) -> Response<ReplyBody> {
    let mut response = text(StatusCode::BAD_REQUEST, reason);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The client went away or broke off its body; mostly nobody reads this.
pub(crate) fn client_gone() -> Response<ReplyBody> {
    let status = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
    text(status, "")
}

fn text(status: StatusCode, text: &'static str) -> Response<ReplyBody> {
    answer(status, PLAIN, Bytes::from_static(text.as_bytes()))
}

fn answer(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::text(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
