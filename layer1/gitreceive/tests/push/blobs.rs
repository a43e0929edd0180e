//! A blob store in memory: whole files, tags, conditions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

#[derive(Clone, Debug, Default)]
pub(crate) struct Blobs(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, (u64, Bytes)>,
    version: u64,
    puts: u64,
    fails: bool,
}

impl Blobs {
    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().files.keys().cloned().collect()
    }

    /// How often something was stored.
    pub(crate) fn puts(&self) -> u64 {
        self.lock().puts
    }

    /// From now on everything fails, or nothing.
    pub(crate) fn fail(&self, fails: bool) {
        self.lock().fails = fails;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(blobs): State<Blobs>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    if blobs.lock().fails {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if !parts.headers.contains_key(AUTHORIZATION) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let name = parts.uri.path().to_owned();
    if parts.method == Method::GET {
        let found = blobs.lock().files.get(&name).cloned();
        return match found {
            Some((version, bytes)) => ([(ETAG, format!("\"{version}\""))], bytes).into_response(),
            None => (StatusCode::NOT_FOUND, "NotFound\n").into_response(),
        };
    }
    let Ok(bytes) = to_bytes(body, 1 << 30).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut inner = blobs.lock();
    let current = inner.files.get(&name).map(|(version, _)| format!("\"{version}\""));
    let text = |name| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let is_as_seen = match (text(IF_MATCH), text(IF_NONE_MATCH)) {
        (Some(tag), None) => Some(tag) == current,
        (None, Some(_)) => current.is_none(),
        (Some(_), Some(_)) | (None, None) => true,
    };
    if !is_as_seen {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    inner.version += 1;
    inner.puts += 1;
    let version = inner.version;
    inner.files.insert(name, (version, bytes));
    StatusCode::OK.into_response()
}
