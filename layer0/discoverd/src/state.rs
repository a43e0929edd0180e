//! What one server knows: the registry, the leases while it leads, and who watches. One lock holds them
//! together, so that a watcher's first picture and what follows it fit without a gap.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discoverd_registry::{
    Answer, Command, Lapsed, LeaseConfig, Leased, LogIndex, Look, Refusal, Registration, Registry,
    Snapshot,
};
use kit_clock::Clock;

use crate::hub::{Hub, Kinds, Subscription};

/// One entry of the log.
#[derive(Debug)]
pub(crate) enum Change {
    /// The log's own business; it only takes an index.
    Nothing,
    /// Commands, each with an index of its own.
    Commands(Vec<Command>),
}

/// The state of one server.
#[derive(Debug)]
pub(crate) struct State {
    inner: Mutex<Inner>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Inner {
    leased: Leased,
    hub: Hub,
}

impl State {
    pub(crate) fn new(clock: Arc<dyn Clock>, leases: LeaseConfig) -> Self {
        let inner = Inner { leased: Leased::new(Registry::new(), leases), hub: Hub::default() };
        Self { inner: Mutex::new(inner), clock }
    }

    /// Applies entries of the log and tells watchers. One result for each entry.
    pub(crate) fn apply(&self, changes: Vec<Change>) -> Vec<Vec<Result<Answer, Refusal>>> {
        let now = self.clock.mono();
        let mut inner = self.lock();
        let mut events = Vec::new();
        let mut results = Vec::with_capacity(changes.len());
        for change in changes {
            match change {
                Change::Nothing => {
                    inner.leased.advance();
                    results.push(Vec::new());
                }
                Change::Commands(commands) => {
                    let apply = |command| {
                        let (result, news) = inner.leased.apply(command, now);
                        events.extend(news);
                        result
                    };
                    results.push(commands.into_iter().map(apply).collect());
                }
            }
        }
        inner.hub.publish(&events);
        results
    }

    /// Becomes the registry of a snapshot, and tells watchers what that changes.
    pub(crate) fn replace(&self, snapshot: Snapshot) {
        let mut inner = self.lock();
        let events = inner.leased.replace(snapshot);
        inner.hub.publish(&events);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.lock().leased.registry().snapshot()
    }

    /// Reads the registry.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Registry) -> T) -> T {
        read(self.lock().leased.registry())
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.lock().leased.registry().applied()
    }

    /// Whether this PUT of an instance is a mere sign of life, noted here and in no log.
    pub(crate) fn heartbeat(&self, service: &str, id: &str, registration: &Registration) -> bool {
        let now = self.clock.mono();
        self.lock().leased.heartbeat(service, id, registration, now)
    }

    /// The present of a service, and what follows it.
    pub(crate) fn subscribe(&self, service: &str, kinds: Kinds) -> Subscription {
        let mut inner = self.lock();
        let picture = inner.leased.registry().picture(service);
        inner.hub.subscribe(service, kinds, picture)
    }

    /// Looks for leases that ended: what is to expire.
    pub(crate) fn look(&self, look: Look) -> Vec<Lapsed> {
        let now = self.clock.mono();
        self.lock().leased.look(look, now)
    }

    /// How long to wait for the next look, at most `longest`.
    pub(crate) fn next_look(&self, longest: Duration) -> Duration {
        let now = self.clock.mono();
        self.lock().leased.next_look(longest, now)
    }

    /// An expiry could not be written.
    pub(crate) fn expiry_failed(&self, lapsed: Vec<Lapsed>) {
        let now = self.clock.mono();
        self.lock().leased.expiry_failed(lapsed, now);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
