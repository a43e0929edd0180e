//! When a leader was heard last. The library keeps such times to itself; elections, redirects and the age
//! of answers need them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When a leader was heard.
#[derive(Debug, Default)]
pub(super) struct Contact(Mutex<Option<Instant>>);

impl Contact {
    /// A leader spoke.
    pub(super) fn heard(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long no leader spoke; None when none ever did since this process started.
    pub(super) fn silent(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|heard| heard.elapsed())
    }
}
