//! HTTP conventions every Flynn service shares: errors, JSON, SSE, upgrades, status, one server loop
//! and one client. Not a framework: routes are plain axum, and what a route does is its component's.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod client;
mod error;
mod json;
mod object;
mod router;
mod server;
pub mod sse;
mod sse_reader;
mod status;
mod upgrade;

pub use client::{
    Client, ClientBuilder, ClientError, EventStream, Request, Resolve, Resolved, Response,
};
pub use error::{ApiError, ErrorCode};
pub use json::{AnyJson, BodyLimit, DEFAULT_BODY_LIMIT, Json, Query, encode_json, null_as_default};
pub use router::{RequestId, finish, not_found};
pub use server::{ServeOptions, serve, serve_connection, serve_unix, serve_with};
pub use sse::wants_sse;
pub use sse_reader::{SseError, SseItem, SseParser};
pub use status::{Health, STATUS_PATH, Status, StatusBody, status_response, status_router};
pub use upgrade::{Upgraded, Upgrading, accept_upgrade};

/// Ignores whatever JSON a server answers; the type argument for calls whose answer is of no use.
pub use serde::de::IgnoredAny as Ignored;
