//! What can go wrong in a call, with what a person or a caller needs to decide what next.

use std::time::Duration;

use http::StatusCode;

use crate::error::{ApiError, ErrorCode};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused, and said why. Its text is that of the API error alone, as the command line
    /// prints it.
    #[error("{error}")]
    Api {
        /// The HTTP status.
        status: StatusCode,
        /// The server's error.
        error: Box<ApiError>,
    },
    /// The server answered 404 without an error body.
    #[error("resource not found: {url}")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// The server answered another status than 2xx, without an error body.
    #[error("unexpected HTTP status {status} from {url}{}", shown(.body))]
    Status {
        /// The HTTP status.
        status: StatusCode,
        /// What was asked for.
        url: String,
        /// The beginning of the answer's text.
        body: String,
    },
    /// No connection: the request was not sent.
    #[error("cannot connect to {url}")]
    Connect {
        /// What was asked for.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke; the request may have been carried out.
    #[error("request to {url} failed")]
    Transport {
        /// What was asked for.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server took too long; the request may have been carried out.
    #[error("timed out after {within:?} waiting for {what}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        within: Duration,
    },
    /// The answer is not the JSON that was expected.
    #[error("answer of {url} is not the expected JSON")]
    Decode {
        /// What was asked for.
        url: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The body to send cannot be written as JSON.
    #[error("request body cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    /// The answer is larger than the client reads into memory.
    #[error("answer of {url} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The client's bound.
        limit: usize,
    },
    /// A redirect loop, in all likelihood.
    #[error("more than {limit} redirects")]
    TooManyRedirects {
        /// How many were followed.
        limit: usize,
    },
    /// A streamed body was redirected; it cannot be sent again.
    #[error("streamed request was redirected to {location}")]
    BodyNotRepeatable {
        /// Where to.
        location: String,
    },
    /// The server did not leave HTTP as asked.
    #[error("server did not upgrade the connection: HTTP status {status}")]
    NotUpgraded {
        /// What it answered.
        status: StatusCode,
    },
    /// The server said 101, but the connection did not follow.
    #[error("upgrade of {url} failed")]
    Upgrade {
        /// What was asked for.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not a URL this client can use.
    #[error("bad URL {url:?}: it must be http://HOST[:PORT]/PATH or https://…")]
    BadUrl {
        /// The text.
        url: String,
    },
    /// A header's value has characters that headers cannot have.
    #[error("value of header {name} is not allowed in HTTP")]
    BadHeader {
        /// The header.
        name: String,
    },
    /// The client was given no server to talk to.
    #[error("no server is known")]
    NoServer,
}

impl ClientError {
    /// The code of the server's error, if it sent one.
    pub fn api_code(&self) -> Option<ErrorCode> {
        self.api().map(|error| error.code)
    }

    /// The server's error, if it sent one.
    pub fn api(&self) -> Option<&ApiError> {
        if let Self::Api { error, .. } = self { Some(error) } else { None }
    }

    /// Whether the thing asked for does not exist, with or without an error body.
    pub fn is_not_found(&self) -> bool {
        if let Self::Api { status, .. } = self {
            return *status == StatusCode::NOT_FOUND;
        }
        matches!(self, Self::NotFound { .. })
    }

    /// Whether no connection came about, so that the request was certainly not carried out.
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }

    /// Whether the same request may succeed when it is sent again at once: it was not sent, or the server
    /// says so.
    pub fn is_retryable(&self) -> bool {
        self.is_connect() || self.api().is_some_and(|error| error.retry)
    }
}

fn shown(body: &str) -> String {
    let line = body.lines().next().unwrap_or_default().trim();
    if line.is_empty() { String::new() } else { format!(": {line}") }
}
