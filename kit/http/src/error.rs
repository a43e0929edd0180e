//! The error body of every Flynn service and its status table. Not the errors of a client's own
//! making: those are [`crate::ClientError`].

use std::error::Error;
use std::fmt;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What went wrong, as it stands on the wire. Codes this build does not know read as
/// [`Unknown`](Self::Unknown).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The thing asked for does not exist.
    #[serde(rename = "not_found")]
    NotFound,
    /// The object named in the request does not exist.
    #[serde(rename = "object_not_found")]
    ObjectNotFound,
    /// An object of that name or id is there already.
    #[serde(rename = "object_exists")]
    ObjectExists,
    /// The request clashes with the present state.
    #[serde(rename = "conflict")]
    Conflict,
    /// A condition the request made does not hold.
    #[serde(rename = "precondition_failed")]
    PreconditionFailed,
    /// The body is no JSON, or JSON of a wrong type.
    #[serde(rename = "syntax_error")]
    Syntax,
    /// A value is not acceptable.
    #[serde(rename = "validation_error")]
    Validation,
    /// The body is larger than this service reads.
    #[serde(rename = "request_body_too_big")]
    RequestBodyTooBig,
    /// The key or token is missing or wrong.
    #[serde(rename = "unauthorized")]
    Unauthorized,
    /// Too many requests at once.
    #[serde(rename = "ratelimited")]
    RateLimited,
    /// Not now; try again.
    #[serde(rename = "service_unavailable")]
    ServiceUnavailable,
    /// Anything that is not the caller's fault and has no code of its own.
    #[serde(rename = "unknown_error", other)]
    Unknown,
}

impl ErrorCode {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::ObjectNotFound => "object_not_found",
            Self::ObjectExists => "object_exists",
            Self::Conflict => "conflict",
            Self::PreconditionFailed => "precondition_failed",
            Self::Syntax => "syntax_error",
            Self::Validation => "validation_error",
            Self::RequestBodyTooBig => "request_body_too_big",
            Self::Unauthorized => "unauthorized",
            Self::Unknown => "unknown_error",
            Self::RateLimited => "ratelimited",
            Self::ServiceUnavailable => "service_unavailable",
        }
    }

    /// The HTTP status that goes with the code.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NotFound | Self::ObjectNotFound => StatusCode::NOT_FOUND,
            Self::ObjectExists | Self::Conflict => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::Syntax | Self::Validation | Self::RequestBodyTooBig => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error body: `{"code","message","detail"?,"retry"}`, in this order.
///
/// Its text form is `<code>: <message>`, which is what the command line prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// What kind of error it is.
    pub code: ErrorCode,
    /// A sentence for people.
    #[serde(default)]
    pub message: String,
    /// Facts for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
    /// Whether the same request may succeed when it is sent again.
    #[serde(default)]
    pub retry: bool,
}

const SYNTAX: &str = "The provided JSON input is invalid";
const TOO_BIG: &str = "The provided request body is too big";
const UNKNOWN: &str = "Something went wrong";

impl ApiError {
    /// An error without detail that is not worth repeating.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, retry: false }
    }

    /// The same error with facts for programs.
    #[must_use]
    pub fn with_detail(self, detail: Value) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// The same error, marked as worth (or not worth) repeating.
    #[must_use]
    pub fn with_retry(self, retry: bool) -> Self {
        Self { retry, ..self }
    }

    /// A field's value is not acceptable: message `<field> <what>`, detail `{"field":"<field>"}`.
    pub fn validation(field: &str, what: impl fmt::Display) -> Self {
        let detail = serde_json::json!({ "field": field });
        Self::new(ErrorCode::Validation, format!("{field} {what}")).with_detail(detail)
    }

    /// The request as a whole is not acceptable.
    pub fn validation_plain(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Validation, message)
    }

    /// The object named in the request does not exist.
    pub fn object_not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ObjectNotFound, message)
    }

    /// The thing asked for does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// The request clashes with the present state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Conflict, message)
    }

    /// An object of that name or id is there already.
    pub fn object_exists(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ObjectExists, message)
    }

    /// A condition the request made does not hold.
    pub fn precondition_failed(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::PreconditionFailed, message)
    }

    /// The body is no JSON, or JSON of a wrong type.
    pub fn syntax() -> Self {
        Self::new(ErrorCode::Syntax, SYNTAX)
    }

    /// The body is larger than this service reads.
    pub fn request_body_too_big() -> Self {
        Self::new(ErrorCode::RequestBodyTooBig, TOO_BIG)
    }

    /// The key or token is missing or wrong.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unauthorized, message)
    }

    /// Too many requests at once; worth repeating.
    pub fn rate_limited(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::RateLimited, message).with_retry(true)
    }

    /// Not now; worth repeating.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ServiceUnavailable, message).with_retry(true)
    }

    /// "Something went wrong", for what the caller can do nothing about.
    pub fn unknown() -> Self {
        Self::new(ErrorCode::Unknown, UNKNOWN)
    }

    /// Logs `error` with its causes and answers "Something went wrong": inner details are for the
    /// operator's log, not for the caller. Whoever calls this has handled the error.
    pub fn internal(error: &dyn Error) -> Self {
        tracing::error!(error = %chain(error), "request failed");
        Self::unknown()
    }

    /// The HTTP status that goes with the error.
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        crate::json::respond(self.status(), &self)
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ErrorCode; 12] = [
        ErrorCode::NotFound,
        ErrorCode::ObjectNotFound,
        ErrorCode::ObjectExists,
        ErrorCode::Conflict,
        ErrorCode::PreconditionFailed,
        ErrorCode::Syntax,
        ErrorCode::Validation,
        ErrorCode::RequestBodyTooBig,
        ErrorCode::Unauthorized,
        ErrorCode::Unknown,
        ErrorCode::RateLimited,
        ErrorCode::ServiceUnavailable,
    ];

    #[test]
    fn codes_have_one_text_on_the_wire_and_in_messages() {
        let statuses = [404, 404, 409, 409, 412, 400, 400, 400, 401, 500, 429, 503];
        for (code, status) in ALL.into_iter().zip(statuses) {
            let wire = serde_json::to_string(&code).unwrap();
            assert_eq!(wire, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&wire).unwrap(), code);
            assert_eq!(code.status().as_u16(), status, "{code}");
        }
        assert_eq!(serde_json::from_str::<ErrorCode>("\"odd\"").unwrap(), ErrorCode::Unknown);
    }

    #[test]
    fn the_body_has_the_order_of_the_wire() {
        for (error, want) in [
            (
                ApiError::validation("lines", "must be small"),
                r#"{"code":"validation_error","message":"lines must be small","detail":{"field":"lines"},"retry":false}"#,
            ),
            (
                ApiError::service_unavailable("later"),
                r#"{"code":"service_unavailable","message":"later","retry":true}"#,
            ),
            (
                ApiError::unknown(),
                r#"{"code":"unknown_error","message":"Something went wrong","retry":false}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&error).unwrap(), want);
            assert_eq!(serde_json::from_str::<ApiError>(want).unwrap(), error);
        }
    }

    #[test]
    fn the_text_is_what_the_command_line_prints() {
        let error = ApiError::conflict("Duplicate route");
        assert_eq!(error.to_string(), "conflict: Duplicate route");
    }
}
