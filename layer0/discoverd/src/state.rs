//! What one server knows: the registry, the leases while it leads, and who watches. One lock holds them
//! together, so that a watcher's first picture and what follows it fit without a gap.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discoverd_registry::{
    Answer, Command, Event, Lapsed, LeaseConfig, LeaseEffect, LeaseEvent, Leases, LogIndex,
    Refusal, Registration, Registry, Snapshot,
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
    registry: Registry,
    leases: Leases,
    /// The term whose leader the leases were told this server is.
    leads: Option<u64>,
    hub: Hub,
}

impl State {
    pub(crate) fn new(clock: Arc<dyn Clock>, leases: LeaseConfig) -> Self {
        let (registry, hub) = (Registry::new(), Hub::default());
        let inner = Inner { registry, leases: Leases::new(leases), leads: None, hub };
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
                    let next = inner.next_index();
                    inner.registry.advance(next);
                    results.push(Vec::new());
                }
                Change::Commands(commands) => {
                    let apply = |command| inner.apply(command, now, &mut events);
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
        let events = inner.registry.replace(snapshot);
        inner.hub.publish(&events);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.lock().registry.snapshot()
    }

    /// Reads the registry.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Registry) -> T) -> T {
        read(&self.lock().registry)
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.lock().registry.applied()
    }

    /// Whether this PUT of an instance is a mere sign of life, noted here and in no log.
    pub(crate) fn heartbeat(&self, service: &str, id: &str, registration: &Registration) -> bool {
        let now = self.clock.mono();
        let mut inner = self.lock();
        let known = inner.registry.instance(service, id);
        if known.is_none_or(|known| known.registration != *registration)
            || inner.leases.is_condemned(service, id)
        {
            return false;
        }
        inner.leases.handle(LeaseEvent::Heartbeat(service.into(), id.into()), now);
        true
    }

    /// The present of a service, and what follows it.
    pub(crate) fn subscribe(&self, service: &str, kinds: Kinds) -> Subscription {
        let mut inner = self.lock();
        let picture = inner.registry.picture(service);
        inner.hub.subscribe(service, kinds, picture)
    }

    /// Drives the leases: `leads` is the term this server leads, if it does, `undoubted` whether it
    /// surely heard all heartbeats since the last call. Gives what is to expire. In another term than
    /// at the last call somebody else may have led, and heard heartbeats, in between.
    pub(crate) fn drive_leases(&self, leads: Option<u64>, undoubted: bool) -> Vec<Lapsed> {
        let now = self.clock.mono();
        let mut inner = self.lock();
        match (inner.leads, leads) {
            (before, Some(term)) if before != Some(term) => {
                let all = inner.all_instances();
                inner.leases.handle(LeaseEvent::Elected(all), now);
            }
            (Some(_), None) => inner.leases.handle(LeaseEvent::Deposed, now),
            (Some(_), Some(_)) | (None, _) => {}
        }
        inner.leads = leads;
        if !undoubted {
            inner.leases.handle(LeaseEvent::Doubted, now);
        }
        inner.leases.handle_timeout(now);
        let mut lapsed = Vec::new();
        while let Some(LeaseEffect::Expire(more)) = inner.leases.poll_effect() {
            lapsed.extend(more);
        }
        lapsed
    }

    /// An expiry could not be written.
    pub(crate) fn expiry_failed(&self, lapsed: Vec<Lapsed>) {
        let now = self.clock.mono();
        self.lock().leases.handle(LeaseEvent::ExpiryFailed(lapsed), now);
    }

    /// How long until a lease may end.
    pub(crate) fn until_next_lease(&self) -> Option<Duration> {
        let now = self.clock.mono();
        self.lock().leases.next_timeout().map(|(due, _)| now.until(due))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next_index(&self) -> LogIndex {
        LogIndex(self.registry.applied().0 + 1)
    }

    fn apply(
        &mut self,
        command: Command,
        now: kit_clock::Mono,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        let at = self.next_index();
        let touched = match &command {
            Command::AddInstance { service, id, .. } => Some((service.clone(), id.clone())),
            Command::AddService { .. }
            | Command::RemoveService { .. }
            | Command::SetMeta { .. }
            | Command::SetLeader { .. }
            | Command::RemoveInstance { .. }
            | Command::Expire { .. } => None,
        };
        let (result, news) = self.registry.apply(command, at);
        if let (Some((service, id)), Ok(_)) = (touched, &result) {
            self.leases.handle(LeaseEvent::Touched(Lapsed { service, id, touched: at }), now);
        }
        for event in &news {
            if let Event::Down(service, gone) = event {
                self.leases.handle(LeaseEvent::Removed(service.clone(), gone.id.clone()), now);
            }
        }
        events.extend(news);
        result
    }

    fn all_instances(&self) -> Vec<Lapsed> {
        let mut all = Vec::new();
        for service in self.registry.services() {
            for instance in self.registry.instances(service.as_str()) {
                let id = instance.id.clone();
                let touched = self.registry.touched(service.as_str(), id.as_str());
                all.push(Lapsed {
                    service: service.clone(),
                    id,
                    touched: touched.unwrap_or(instance.index),
                });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use kit_clock::{Mono, Wall};

    use super::*;

    #[derive(Debug, Default)]
    struct Seconds(AtomicU64);

    impl Clock for Seconds {
        fn mono(&self) -> Mono {
            Mono::from_origin(Duration::from_secs(self.0.load(Ordering::SeqCst)))
        }

        fn wall(&self) -> Wall {
            Wall::EPOCH
        }
    }

    /// Found by simulation: who lost the lead and won it back between two looks had missed the
    /// heartbeats that went elsewhere, and expired the living.
    #[test]
    fn a_leader_of_another_term_gives_everybody_the_grace_again() {
        let clock = Arc::new(Seconds::default());
        let state = State::new(Arc::clone(&clock) as _, LeaseConfig::default());
        let (service, registration) = (
            discoverd_registry::Name::from("web"),
            Registration {
                addr: "10.0.0.1:80".to_owned(),
                proto: "tcp".to_owned(),
                meta: std::collections::BTreeMap::new(),
            },
        );
        let add = Command::AddService {
            service: service.clone(),
            election: discoverd_registry::Election::Oldest,
        };
        let put = Command::AddInstance { service, id: "a".into(), registration };
        state.apply(vec![Change::Commands(vec![add, put])]);
        assert_eq!(state.drive_leases(Some(1), true), []);
        clock.0.store(19, Ordering::SeqCst);
        assert_eq!(state.drive_leases(Some(2), true), []);
        clock.0.store(20, Ordering::SeqCst);
        assert_eq!(state.drive_leases(Some(2), true), [], "the second lead is young");
        clock.0.store(39, Ordering::SeqCst);
        assert_eq!(state.drive_leases(Some(2), true).len(), 1);
    }
}
