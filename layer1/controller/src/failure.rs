//! How a request ends when it does not succeed, and what of it the caller is told.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use kit_http::ApiError;
use kit_pg::PgError;

/// What handlers return.
pub(crate) type Answer<T> = Result<T, Failure>;

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the path names does not exist: 404 without a body, which clients tell apart from an error.
    NotFound,
    /// An error with a text.
    Api(ApiError),
}

impl Failure {
    /// Something of ours broke; the log says what.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        Self::Api(ApiError::internal(error))
    }

    /// The request as a whole is not acceptable.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Api(ApiError::validation_plain(message))
    }

    /// A field is not acceptable.
    pub(crate) fn field(field: &str, what: impl std::fmt::Display) -> Self {
        Self::Api(ApiError::validation(field, what))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND.into_response(),
            Self::Api(error) => error.into_response(),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        PgError::from(error).into()
    }
}

impl From<PgError> for Failure {
    fn from(error: PgError) -> Self {
        Self::Api(match &error {
            PgError::Unavailable(_) | PgError::Timeout { .. } | PgError::Conflict(_) => {
                tracing::warn!(%error, cause = ?std::error::Error::source(&error), "database not available");
                ApiError::service_unavailable("the database is not available, try again")
            }
            PgError::Unique { constraint } => ApiError::object_exists(taken(constraint)),
            PgError::ForeignKey { constraint } => ApiError::validation_plain(missing(constraint)),
            PgError::Check { message, .. } | PgError::Data { message } => {
                ApiError::validation_plain(format!("a value cannot be stored: {message}"))
            }
            PgError::Query(_) => ApiError::internal(&error),
        })
    }
}

/// What a unique constraint of ours means.
fn taken(constraint: &str) -> &'static str {
    match constraint {
        "providers_name" => "a provider with this name already exists",
        "providers_url" => "a provider with this url already exists",
        "resources_external" => "the provider's resource is already known",
        "app_resources_pkey" => "the app already uses the resource",
        "release_artifacts_pkey" => "the release names an artifact twice",
        _ => "an object with this id already exists",
    }
}

/// What a foreign key of ours means when the other row is not there.
fn missing(constraint: &str) -> &'static str {
    match constraint.split_once("_").map(|(_, column)| column) {
        Some("app_id_fkey" | "resources_app_id_fkey") => "the app does not exist",
        Some("release_id_fkey" | "artifacts_release_id_fkey") => "the release does not exist",
        Some("artifacts_artifact_id_fkey") => "an artifact does not exist",
        _ => "an object that is referred to does not exist",
    }
}
