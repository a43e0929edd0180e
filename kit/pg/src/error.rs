//! What went wrong with the database, sorted by what the caller can do about it.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

/// Why a query, or getting a connection, failed.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// No database can be reached, or it cannot take changes now. Trying again later helps.
    #[error("the database is not available")]
    Unavailable(#[source] Option<tokio_postgres::Error>),
    /// Something took too long; the database may be overloaded.
    #[error("{what} was not there in time")]
    Timeout {
        /// What was waited for.
        what: &'static str,
    },
    /// A unique constraint or index forbids the row.
    #[error("unique constraint {constraint} is violated")]
    Unique {
        /// Its name.
        constraint: String,
    },
    /// A row that is referred to does not exist, or one that goes is still referred to.
    #[error("foreign key {constraint} is violated")]
    ForeignKey {
        /// Its name.
        constraint: String,
    },
    /// A check, a not-null constraint or a rule of the schema forbids the row.
    #[error("constraint {constraint} is violated: {message}")]
    Check {
        /// Its name, as far as there is one.
        constraint: String,
        /// What the database says.
        message: String,
    },
    /// Another transaction was in the way. The whole transaction may be tried again.
    #[error("the transaction was in conflict with another one")]
    Conflict(#[source] tokio_postgres::Error),
    /// A value cannot be stored (bad text, out of range).
    #[error("a value cannot be stored: {message}")]
    Data {
        /// What the database says.
        message: String,
    },
    /// Anything else: a mistake of ours.
    #[error("the database refused a query")]
    Query(#[source] tokio_postgres::Error),
}

impl PgError {
    /// Whether the same work may succeed when it is done again.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Timeout { .. } | Self::Conflict(_) => true,
            Self::Unique { .. }
            | Self::ForeignKey { .. }
            | Self::Check { .. }
            | Self::Data { .. }
            | Self::Query(_) => false,
        }
    }

    /// The violated constraint, if one is.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Unique { constraint }
            | Self::ForeignKey { constraint }
            | Self::Check { constraint, .. } => Some(constraint),
            Self::Unavailable(_)
            | Self::Timeout { .. }
            | Self::Conflict(_)
            | Self::Data { .. }
            | Self::Query(_) => None,
        }
    }
}

impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refusal) = error.as_db_error() else { return without_code(error) };
        let constraint = refusal.constraint().unwrap_or_default().to_owned();
        let message = refusal.message().to_owned();
        let code = refusal.code();
        // The first two characters of a SQLSTATE are its class.
        match code.code().get(..2).unwrap_or_default() {
            _ if *code == SqlState::UNIQUE_VIOLATION => Self::Unique { constraint },
            _ if *code == SqlState::FOREIGN_KEY_VIOLATION => Self::ForeignKey { constraint },
            "23" | "P0" => Self::Check { constraint, message },
            "22" => Self::Data { message },
            "40" => Self::Conflict(error),
            _ if *code == SqlState::QUERY_CANCELED || *code == SqlState::LOCK_NOT_AVAILABLE => {
                Self::Timeout { what: "the end of a statement" }
            }
            // Connections, resources, an operator at work, a wrong password, no such database yet, a
            // primary that became a standby.
            "08" | "53" | "57" | "28" | "3D" => Self::Unavailable(Some(error)),
            _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Self::Unavailable(Some(error)),
            _ => Self::Query(error),
        }
    }
}

/// Errors that do not come from the server: the connection broke, or our types do not fit.
fn without_code(error: tokio_postgres::Error) -> PgError {
    use std::error::Error as _;
    let is_io = error.source().is_some_and(|cause| cause.is::<std::io::Error>());
    let is_lost = error.is_closed() || is_io || error.to_string().starts_with("error connecting");
    if is_lost { PgError::Unavailable(Some(error)) } else { PgError::Query(error) }
}

impl From<PoolError> for PgError {
    fn from(error: PoolError) -> Self {
        match error {
            // Whatever kept us from connecting: there is no connection.
            PoolError::Backend(error) => Self::Unavailable(Some(error)),
            PoolError::Timeout(_) => Self::Timeout { what: "a database connection" },
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                Self::Unavailable(None)
            }
        }
    }
}
