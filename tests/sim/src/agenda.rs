//! What happens when: the true time of a run, which no simulated process sees.

use std::collections::BTreeMap;
use std::time::Duration;

/// Events in order of time; those of one moment in the order they were put.
#[derive(Debug)]
pub struct Agenda<E> {
    now: Duration,
    queue: BTreeMap<(Duration, u64), E>,
    put: u64,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { now: Duration::ZERO, queue: BTreeMap::new(), put: 0 }
    }
}

impl<E> Agenda<E> {
    /// Time since the start of the run.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Puts an event `delay` from now.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.put += 1;
        self.queue.insert((self.now + delay, self.put), event);
    }

    /// Takes the next event; its time is now.
    pub fn next_event(&mut self) -> Option<E> {
        let ((at, _), event) = self.queue.pop_first()?;
        self.now = at;
        Some(event)
    }
}
