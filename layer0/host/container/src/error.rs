//! What goes wrong while a job is set up: which step, on what, and the kernel's reason.

use std::io;

/// A step of setting up a job that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub(crate) struct SetupError {
    step: String,
    source: io::Error,
}

impl SetupError {
    /// A failed step.
    pub(crate) fn new(step: impl Into<String>, source: io::Error) -> Self {
        Self { step: step.into(), source }
    }

    /// A step that cannot be done, with the reason in words.
    pub(crate) fn because(step: impl Into<String>, reason: &str) -> Self {
        Self::new(step, io::Error::new(io::ErrorKind::InvalidInput, reason))
    }

    /// Step and reason in one line, as people get to see them.
    pub(crate) fn report(&self) -> String {
        format!("{}: {}", self.step, plain_error(&self.source))
    }

    /// The reason alone.
    pub(crate) fn into_io(self) -> io::Error {
        self.source
    }
}

/// The kernel's reason without Rust's number, in lower case.
pub(crate) fn plain_error(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
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
