//! Who is alive: the leader's memory of heartbeats. See LIFECYCLE.md.
//!
//! Leases are in no log. A server that becomes leader knows nobody's last heartbeat, so it gives everyone
//! a full grace time before it lets anything expire; the same holds whenever it has reason to doubt that
//! it heard all heartbeats (it lost touch with its quorum, or its process stood still). So a flapping
//! election can delay an expiry but never cause one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kit_clock::Mono;

use crate::{Id, Lapsed, LogIndex, Name};

/// The time constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// How long an instance lives after its last heartbeat.
    pub ttl: Duration,
    /// How long a leader must have led, undoubted, before it lets anything expire. At least `ttl`.
    pub grace: Duration,
    /// How many instances one command may expire; the rest follow in the next.
    pub batch: usize,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(10), grace: Duration::from_secs(20), batch: 1000 }
    }
}

impl LeaseConfig {
    /// How long a leader may hear nobody before it has to doubt ([`LeaseEvent::Doubted`]) that it heard
    /// all heartbeats. Clients send one every half `ttl`: after one heartbeat missed there must be time
    /// for the next.
    pub fn doubtful_after(&self) -> Duration {
        self.ttl / 4
    }

    /// How long what waits in a leader's sockets has to be read before a lease that is over ends. A
    /// process that stood still less long than is doubtful looks at its leases and its sockets at once.
    pub fn reading(&self) -> Duration {
        self.ttl / 40
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// This server leads now, or leads again after somebody else did; these are all instances.
    Elected(Vec<Lapsed>),
    /// This server leads no longer.
    Deposed,
    /// Heartbeats may have been missed: everybody gets the grace time again.
    Doubted,
    /// An instance gave a sign of life that is in no log.
    Heartbeat(Name, Id),
    /// A write of an instance was applied.
    Touched(Lapsed),
    /// An instance is gone.
    Removed(Name, Id),
    /// An order to expire came to nothing; ask again later.
    ExpiryFailed(Vec<Lapsed>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEffect {
    /// Put these to the log as one command. They stay condemned until it was applied or failed.
    Expire(Vec<Lapsed>),
}

/// Why a deadline is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutReason {
    /// The first lease that may be over by then.
    LeaseMayEnd,
}

/// What operators and tests may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Before this nothing expires; nothing while this server does not lead.
    pub settled_at: Option<Mono>,
    /// Leases held.
    pub leases: usize,
    /// Leases whose expiry was ordered and has not been applied.
    pub condemned: usize,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    seen: Mono,
    touched: LogIndex,
    /// Where it stands among the deadlines; nowhere once its expiry was ordered.
    armed: Option<Mono>,
    /// An order to expire it came to nothing as far as is known; it may be in the log all the same.
    in_doubt: bool,
}

impl Lease {
    fn condemned(&self) -> bool {
        self.armed.is_none()
    }
}

type Key = (Name, Id);

/// The machine. A heartbeat costs one look-up: deadlines are re-armed only when they come up.
#[derive(Debug)]
pub struct Leases {
    config: LeaseConfig,
    settled_at: Option<Mono>,
    leases: BTreeMap<Name, BTreeMap<Id, Lease>>,
    /// One entry for each lease that is not condemned, never later than its true end.
    deadlines: BTreeSet<(Mono, Key)>,
    effects: VecDeque<LeaseEffect>,
}

impl Leases {
    /// A machine that does not lead.
    pub fn new(config: LeaseConfig) -> Self {
        let (leases, deadlines) = (BTreeMap::new(), BTreeSet::new());
        Self { config, settled_at: None, leases, deadlines, effects: VecDeque::new() }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, event: LeaseEvent, now: Mono) {
        match event {
            LeaseEvent::Elected(instances) => self.elected(instances, now),
            LeaseEvent::Deposed => self.clear(),
            LeaseEvent::Doubted => {
                self.settled_at = self.settled_at.map(|_| now + self.config.grace)
            }
            LeaseEvent::Heartbeat(service, id) => {
                if let Some(lease) = self.lease_mut(&service, &id) {
                    lease.seen = lease.seen.max(now);
                }
            }
            LeaseEvent::Touched(instance) => self.touch(instance, now),
            LeaseEvent::Removed(service, id) => self.forget(service, id),
            LeaseEvent::ExpiryFailed(instances) => {
                for Lapsed { service, id, .. } in instances {
                    self.pardon(service, id, now);
                }
            }
        }
    }

    /// The next order, until there is none.
    pub fn poll_effect(&mut self) -> Option<LeaseEffect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn next_timeout(&self) -> Option<(Mono, TimeoutReason)> {
        let settled = self.settled_at?;
        let (first, _) = self.deadlines.first()?;
        Some(((*first).max(settled), TimeoutReason::LeaseMayEnd))
    }

    /// Condemns what is over.
    pub fn handle_timeout(&mut self, now: Mono) {
        if self.settled_at.is_none_or(|settled| now < settled) {
            return;
        }
        let mut lapsed = Vec::new();
        while lapsed.len() < self.config.batch {
            if self.deadlines.first().is_none_or(|(due, _)| *due > now) {
                break;
            }
            lapsed.extend(self.deadlines.pop_first().and_then(|(_, key)| self.check(key, now)));
        }
        if !lapsed.is_empty() {
            self.effects.push_back(LeaseEffect::Expire(lapsed));
        }
    }

    /// Whether an instance's expiry was ordered and may still be applied: then a heartbeat must go
    /// through the log, where it overrules that order. An order that failed counts too, until the next
    /// write of the instance: a proposal whose time ran out can be in the log.
    pub fn is_condemned(&self, service: &str, id: &str) -> bool {
        let lease = self.leases.get(service).and_then(|of_service| of_service.get(id));
        lease.is_some_and(|lease| lease.condemned() || lease.in_doubt)
    }

    /// What operators and tests may see.
    pub fn view(&self) -> LeaseView {
        let all = || self.leases.values().flat_map(BTreeMap::values);
        let condemned = all().filter(|lease| lease.condemned()).count();
        LeaseView { settled_at: self.settled_at, leases: all().count(), condemned }
    }

    /// Panics when the state contradicts itself; for tests and simulations.
    pub fn check_invariants(&self) {
        let view = self.view();
        assert_eq!(self.deadlines.len() + view.condemned, view.leases, "one deadline a live lease");
        assert!(view.settled_at.is_some() || view.leases == 0, "only a leader holds leases");
        for (due, (service, id)) in &self.deadlines {
            let lease = self.leases.get(service).and_then(|of_service| of_service.get(id));
            assert!(lease.is_some_and(|lease| lease.armed == Some(*due)));
            assert!(lease.is_some_and(|lease| *due <= lease.seen + self.config.ttl));
        }
    }

    fn elected(&mut self, instances: Vec<Lapsed>, now: Mono) {
        self.clear();
        self.settled_at = Some(now + self.config.grace);
        for instance in instances {
            self.touch(instance, now);
        }
    }

    fn clear(&mut self) {
        self.settled_at = None;
        self.leases.clear();
        self.deadlines.clear();
        self.effects.clear();
    }

    fn touch(&mut self, instance: Lapsed, now: Mono) {
        if self.settled_at.is_none() {
            return;
        }
        let Lapsed { service, id, touched } = instance;
        let of_service = self.leases.entry(service.clone()).or_default();
        let armed = of_service.get(&id).and_then(|lease| lease.armed);
        let due = armed.unwrap_or(now + self.config.ttl);
        of_service
            .insert(id.clone(), Lease { seen: now, touched, armed: Some(due), in_doubt: false });
        self.deadlines.insert((due, (service, id)));
    }

    fn forget(&mut self, service: Name, id: Id) {
        let Some(of_service) = self.leases.get_mut(&service) else { return };
        let removed = of_service.remove(&id);
        if of_service.is_empty() {
            self.leases.remove(&service);
        }
        if let Some(due) = removed.and_then(|lease| lease.armed) {
            self.deadlines.remove(&(due, (service, id)));
        }
    }

    fn pardon(&mut self, service: Name, id: Id, now: Mono) {
        let ttl = self.config.ttl;
        let Some(lease) = self.lease_mut(&service, &id).filter(|lease| lease.condemned()) else {
            return;
        };
        let due = (lease.seen + ttl).max(now);
        (lease.seen, lease.armed, lease.in_doubt) = (due - ttl, Some(due), true);
        self.deadlines.insert((due, (service, id)));
    }

    /// One lease whose deadline came up: re-armed when it was renewed since, else condemned.
    fn check(&mut self, key: Key, now: Mono) -> Option<Lapsed> {
        let ttl = self.config.ttl;
        let (service, id) = key;
        let lease = self.lease_mut(&service, &id)?;
        let due = lease.seen + ttl;
        if due > now {
            lease.armed = Some(due);
            self.deadlines.insert((due, (service, id)));
            return None;
        }
        lease.armed = None;
        let touched = lease.touched;
        Some(Lapsed { service, id, touched })
    }

    fn lease_mut(&mut self, service: &Name, id: &Id) -> Option<&mut Lease> {
        self.leases.get_mut(service)?.get_mut(id)
    }
}
