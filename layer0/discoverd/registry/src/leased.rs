//! The registry and the leases of its instances, kept in step: which entry of the log renews or ends a
//! lease, which sign of life needs no entry, and when a leader may order an expiry.
//!
//! The driver (discoverd's expiry loop) does nothing but wait as [`Leased::next_look`] says, [`Leased::look`],
//! and put what that gives to the log. All judgement is here, so that a simulation tries what really runs.

use std::time::Duration;

use kit_clock::Mono;

use crate::{
    Answer, Command, Event, Lapsed, LeaseConfig, LeaseEffect, LeaseEvent, Leases, LogIndex,
    Refusal, Registration, Registry, Snapshot,
};

/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// What a server knows of itself when it looks for leases that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The term it leads, if it does.
    pub leads: Option<u64>,
    /// How long ago its last look was, by the clock it waits with.
    pub since_look: Duration,
    /// How long ago a quorum answered it; nothing when none ever did.
    pub since_quorum: Option<Duration>,
}

/// One server's registry and leases.
#[derive(Debug)]
pub struct Leased {
    registry: Registry,
    leases: Leases,
    config: LeaseConfig,
    /// The term whose leader the leases were told this server is.
    term: Option<u64>,
    /// When the last look was.
    looked: Mono,
    /// How long the driver was told to wait for the next.
    planned: Duration,
    /// Whose lease was over by then has had the time to be heard of.
    judged: Option<Mono>,
}

impl Leased {
    /// A server with this registry that does not lead.
    pub fn new(registry: Registry, config: LeaseConfig) -> Self {
        let leases = Leases::new(config);
        let planned = config.reading();
        Self { registry, leases, config, term: None, looked: Mono::ZERO, planned, judged: None }
    }

    /// The registry, to be read.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// An entry of the log that is no command was applied.
    pub fn advance(&mut self) {
        self.registry.advance(self.next_index());
    }

    /// Applies the next entry of the log to both.
    pub fn apply(&mut self, command: Command, now: Mono) -> (Result<Answer, Refusal>, Vec<Event>) {
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
        let (result, events) = self.registry.apply(command, at);
        if let (Some((service, id)), Ok(_)) = (touched, &result) {
            self.leases.handle(LeaseEvent::Touched(Lapsed { service, id, touched: at }), now);
        }
        for event in &events {
            if let Event::Down(service, gone) = event {
                self.leases.handle(LeaseEvent::Removed(service.clone(), gone.id.clone()), now);
            }
        }
        (result, events)
    }

    /// Becomes the registry of a snapshot, and says what that changes for watchers. Only a server that
    /// does not lead gets one.
    pub fn replace(&mut self, snapshot: Snapshot) -> Vec<Event> {
        self.registry.replace(snapshot)
    }

    /// Whether a registration is a mere sign of life, noted here and in no log.
    pub fn heartbeat(
        &mut self,
        service: &str,
        id: &str,
        registration: &Registration,
        now: Mono,
    ) -> bool {
        let known = self.registry.instance(service, id);
        if known.is_none_or(|known| known.registration != *registration)
            || self.is_condemned(service, id)
        {
            return false;
        }
        self.leases.handle(LeaseEvent::Heartbeat(service.into(), id.into()), now);
        true
    }

    /// Whether an instance's expiry was ordered and may still be applied.
    pub fn is_condemned(&self, service: &str, id: &str) -> bool {
        self.leases.is_condemned(service, id)
    }

    /// Gives what is to expire, for one command. In another term than at the last look somebody else may
    /// have led, and heard heartbeats, in between. A process that stood still did not read the heartbeats
    /// that wait in its sockets, and a leader that lost its quorum may have lost its clients too.
    ///
    /// A look orders the end only of leases that were over at an earlier one, with time to read between
    /// the two: else a leader that stood still so briefly that it does not doubt would overrule a
    /// heartbeat that came in time and waits.
    pub fn look(&mut self, look: Look, now: Mono) -> Vec<Lapsed> {
        let patience = self.config.doubtful_after();
        let stood_still = look.since_look > self.planned + patience;
        let alone = look.since_quorum.is_none_or(|since| since > patience);
        self.follow_term(look.leads, now);
        if stood_still || alone {
            self.leases.handle(LeaseEvent::Doubted, now);
        }
        if look.since_look >= self.config.reading() {
            self.judged = Some(self.looked);
        }
        self.looked = now;
        if let Some(judged) = self.judged {
            self.leases.handle_timeout(judged);
        }
        let orders = std::iter::from_fn(|| self.leases.poll_effect());
        orders.flat_map(|LeaseEffect::Expire(lapsed)| lapsed).collect()
    }

    /// How long to wait for the next look, at most `longest`.
    pub fn next_look(&mut self, longest: Duration, now: Mono) -> Duration {
        let due = self.leases.next_timeout().map(|(due, _)| due);
        self.planned = match due {
            // It was over before, and is read.
            Some(due) if self.judged.is_some_and(|judged| due <= judged) => PAUSE,
            Some(due) if due <= now => self.config.reading(),
            Some(due) => now.until(due).clamp(PAUSE, longest.max(PAUSE)),
            None => longest,
        };
        self.planned
    }

    /// What a look gave could not be written.
    pub fn expiry_failed(&mut self, lapsed: Vec<Lapsed>, now: Mono) {
        self.leases.handle(LeaseEvent::ExpiryFailed(lapsed), now);
    }

    /// Panics when the state contradicts itself; for tests and simulations.
    pub fn check_invariants(&self) {
        self.registry.check_invariants();
        self.leases.check_invariants();
        assert!(self.judged.is_none_or(|judged| judged <= self.looked));
    }

    fn follow_term(&mut self, leads: Option<u64>, now: Mono) {
        match (self.term, leads) {
            (before, Some(term)) if before != Some(term) => {
                self.leases.handle(LeaseEvent::Elected(self.registry.all_touched()), now);
            }
            (Some(_), None) => self.leases.handle(LeaseEvent::Deposed, now),
            (Some(_), Some(_)) | (None, _) => {}
        }
        self.term = leads;
    }

    fn next_index(&self) -> LogIndex {
        LogIndex(self.registry.applied().0 + 1)
    }
}
