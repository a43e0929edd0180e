//! How a command ends badly: what is said on stderr, and the exit status.

use kit_http::ClientError;

use crate::git::GitError;
use crate::rc::RcError;
use crate::target::TargetError;

/// Why a command did not succeed. `Display` is the whole message, without prefix.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A message that stands in the specification.
    #[error("{0}")]
    Said(String),
    /// Everything was said; only the status is left.
    #[error("exit status {0}")]
    Status(u8),
    /// The config file.
    #[error(transparent)]
    Rc(#[from] RcError),
    /// No app, or several.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// git.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The controller refused, or could not be reached.
    #[error(transparent)]
    Controller(#[from] ClientError),
    /// A file or stream of the person.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Failure {
    /// A message that stands in the specification.
    pub(crate) fn said(message: impl Into<String>) -> Self {
        Self::Said(message.into())
    }

    /// For `map_err` on a file or stream.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Status(status) => *status,
            Self::Said(_)
            | Self::Rc(_)
            | Self::Target(_)
            | Self::Git(_)
            | Self::Controller(_)
            | Self::Io { .. } => 1,
        }
    }

    /// What goes to stderr, with the causes a message leaves out.
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Self::Status(_) => None,
            // Its text holds its cause already.
            Self::Io { .. } | Self::Said(_) => Some(self.to_string()),
            Self::Controller(ClientError::NotFound { .. }) => {
                Some("controller: resource not found".to_owned())
            }
            Self::Rc(_) | Self::Target(_) | Self::Git(_) | Self::Controller(_) => {
                let mut message = self.to_string();
                let mut cause = std::error::Error::source(self);
                while let Some(error) = cause {
                    message.push_str(": ");
                    message.push_str(&error.to_string());
                    cause = error.source();
                }
                Some(message)
            }
        }
    }
}

/// What commands return.
pub(crate) type Outcome = Result<(), Failure>;
