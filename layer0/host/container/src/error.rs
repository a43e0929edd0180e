//! What goes wrong while a job is set up: which step, on what, and the kernel's reason.

use std::io;

/// A step of setting up a job that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct SetupError {
    step: String,
    source: io::Error,
}

impl SetupError {
    /// A failed step.
    pub fn new(step: impl Into<String>, source: io::Error) -> Self {
        Self { step: step.into(), source }
    }

    /// A step that cannot be done, with the reason in words.
    pub fn because(step: impl Into<String>, reason: &str) -> Self {
        Self::new(step, io::Error::new(io::ErrorKind::InvalidInput, reason))
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The kernel's reason.
    pub fn io(&self) -> &io::Error {
        &self.source
    }
}

/// Names the step that a fallible call stands for.
pub(crate) trait Step<T> {
    fn step(self, name: &str) -> Result<T, SetupError>;
    fn step_with(self, name: impl FnOnce() -> String) -> Result<T, SetupError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, name: &str) -> Result<T, SetupError> {
        self.map_err(|error| SetupError::new(name, error.into()))
    }

    fn step_with(self, name: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|error| SetupError::new(name(), error.into()))
    }
}
