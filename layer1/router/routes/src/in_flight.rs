//! The requests a backend is working on, counted without a lock, together with whether it may get
//! more. Both are one number, so that no request slips in after a drain was found complete.

use std::sync::atomic::{AtomicU64, Ordering};

const DRAINING: u64 = 1 << 63;

/// A backend's requests in flight.
#[derive(Debug, Default)]
pub struct InFlight(AtomicU64);

impl InFlight {
    /// Counts one more request; false, and nothing counted, when the backend is draining.
    #[must_use]
    pub fn enter(&self) -> bool {
        let more = |now: u64| (now & DRAINING == 0).then_some(now + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// A request ended. True when it was the last one of a draining backend.
    #[must_use]
    pub fn leave(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) == DRAINING | 1
    }

    /// No more requests from now on. True when there is none in flight, so it is drained already.
    #[must_use]
    pub fn drain(&self) -> bool {
        self.0.fetch_or(DRAINING, Ordering::AcqRel) & !DRAINING == 0
    }

    /// Takes requests again.
    pub fn resume(&self) {
        self.0.fetch_and(!DRAINING, Ordering::AcqRel);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed) & !DRAINING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_of_a_draining_backend_says_so() {
        let load = InFlight::default();
        assert!(load.enter() && load.enter());
        assert!(!load.drain(), "two are in flight");
        assert!(!load.enter(), "a draining backend takes none");
        assert!(!load.leave());
        assert!(load.leave(), "that was the last");
        assert_eq!(load.count(), 0);
        load.resume();
        assert!(load.enter() && !load.leave() && load.drain());
    }
}
