//! `GET /.well-known/status`: how a component says whether it is well, and the types with which others
//! read the answer.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the status is answered.
pub const STATUS_PATH: &str = "/.well-known/status";

/// The answer's one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Works.
    Healthy,
    /// Does not.
    Unhealthy,
}

/// How a component is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Works or does not.
    pub status: Health,
    /// Facts for people and programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
    /// The version of the binary; filled in by the handler.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
}

impl Status {
    /// Works.
    pub fn healthy() -> Self {
        Self { status: Health::Healthy, detail: None, version: String::new() }
    }

    /// Does not work, with what a person can start from.
    pub fn unhealthy(detail: impl Into<Value>) -> Self {
        Self { status: Health::Unhealthy, detail: Some(detail.into()), version: String::new() }
    }

    /// The same status with facts.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<Value>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusBody {
    /// Everything stands under this key.
    pub data: Status,
}

/// The answer for a status: 200 or 500, indented JSON and a final newline.
pub fn status_response(version: &str, status: Status) -> Response {
    let code = match status.status {
        Health::Healthy => StatusCode::OK,
        Health::Unhealthy => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let body = StatusBody { data: Status { version: version.to_owned(), ..status } };
    match serde_json::to_string_pretty(&body) {
        Ok(text) => (code, [(CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => crate::ApiError::internal(&error).into_response(),
    }
}

/// A router with the status page alone, to be merged into a component's. `health` is asked at each
/// request and should answer within a second.
pub fn status_router<S, F, Fut>(version: &str, health: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Status> + Send,
{
    let (version, health) = (version.to_owned(), Arc::new(health));
    Router::new().route(
        STATUS_PATH,
        get(async move || {
            let status = health().await;
            status_response(&version, status)
        }),
    )
}
