//! What `/events` of the router's API sends: everything that happens, after the backends that are up
//! when a client connects.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use router_api::{Backend, Event};
use tokio::sync::broadcast;

/// Events a slow client may be behind before its stream ends with an error.
const BUFFER: usize = 1024;

/// Publishes events and remembers the backends that are up.
#[derive(Debug)]
pub(crate) struct Hub {
    /// One lock for both, so that a subscriber misses nothing and hears nothing twice.
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    up: BTreeSet<Backend>,
    sender: broadcast::Sender<Event>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        let sender = broadcast::Sender::new(BUFFER);
        Self { inner: Mutex::new(Inner { up: BTreeSet::new(), sender }) }
    }

    pub(crate) fn publish(&self, event: Event) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            Event::BackendUp(backend) => drop(inner.up.insert(backend.clone())),
            Event::BackendDown(backend) => drop(inner.up.remove(backend)),
            Event::Set(_) | Event::Remove(_) | Event::BackendDrained(_) => {}
        }
        // Without subscribers nobody needs to know.
        drop(inner.sender.send(event));
    }

    /// The backends that are up, as events, and what happens from now on.
    pub(crate) fn subscribe(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.up.iter().cloned().map(Event::BackendUp).collect(), inner.sender.subscribe())
    }
}
