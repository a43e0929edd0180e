//! A blob store and a controller in one server, remembering what they were sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use kit_tasks::{Running, Tasks};
use serde_json::Value;

/// What the server has and was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fakes {
    pub blobs: Arc<Mutex<BTreeMap<String, Bytes>>>,
    pub artifacts: Arc<Mutex<Vec<Value>>>,
    pub authorizations: Arc<Mutex<Vec<String>>>,
    pub puts: Arc<Mutex<Vec<String>>>,
    /// How many PUTs are still to be refused.
    pub refusals: Arc<Mutex<u32>>,
}

impl Fakes {
    pub(crate) async fn start(&self, tasks: &Tasks) -> Running {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        kit_http::serve(&tasks.child("fakes"), listener, router).unwrap()
    }

    pub(crate) fn blob(&self, name: &str) -> Option<Bytes> {
        self.blobs.lock().unwrap().get(name).cloned()
    }

    /// How many layers were uploaded.
    pub(crate) fn layer_puts(&self) -> usize {
        self.puts.lock().unwrap().iter().filter(|name| name.starts_with("/slugs/layers/")).count()
    }
}

async fn answer(State(fakes): State<Fakes>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let name = parts.uri.path().to_owned();
    if let Some(value) = parts.headers.get("authorization") {
        fakes.authorizations.lock().unwrap().push(value.to_str().unwrap().to_owned());
    }
    let body = to_bytes(body, 1 << 30).await.unwrap();
    match parts.method {
        Method::PUT => {
            let mut refusals = fakes.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            fakes.puts.lock().unwrap().push(name.clone());
            fakes.blobs.lock().unwrap().insert(name, body);
            StatusCode::OK.into_response()
        }
        Method::POST if name == "/artifacts" => {
            fakes.artifacts.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            ([("content-type", "application/json")], body).into_response()
        }
        Method::GET | Method::HEAD => match fakes.blob(&name) {
            Some(bytes) => bytes.into_response(),
            None => (StatusCode::NOT_FOUND, "NotFound\n").into_response(),
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}
