//! The hosts while a plan is made: what each has left, and whether a job may go there. Hosts are
//! numbered, so that ranking thousands of them compares numbers and not texts.

use std::collections::BTreeMap;

use kit_clock::Mono;
use kit_ids::HostId;

use crate::{Host, HostState, Policy, Process, Reservation, Snapshot};

/// All hosts of a snapshot, by number.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    slots: Vec<Slot<'a>>,
    numbers: BTreeMap<&'a HostId, usize>,
}

/// One host.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) id: &'a HostId,
    host: &'a Host,
    pub(crate) standing: Standing,
    used: Reservation,
    /// How full the host is, by its scarcer resource: 1024 is full.
    pub(crate) load: u64,
    /// Breaks ties between equally good hosts, differently for each process type.
    salt: u64,
}

/// What a host's state means at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Serving,
    Draining,
    /// Silent, and still given time: its jobs count, new ones do not go there.
    Awaited,
    Lost,
}

impl Standing {
    /// How a person is told.
    pub(crate) fn problem(self) -> &'static str {
        match self {
            Self::Serving => "has no room or refused",
            Self::Draining => "drains",
            Self::Awaited => "does not answer",
            Self::Lost => "is lost",
        }
    }
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, policy: &Policy, now: Mono) -> Self {
        let slots: Vec<Slot<'a>> = snapshot
            .hosts
            .iter()
            .map(|(id, host)| Slot {
                id,
                host,
                standing: standing(host.state, policy, now),
                used: Reservation::default(),
                load: 0,
                salt: hash(id.as_str()),
            })
            .collect();
        let numbers = slots.iter().enumerate().map(|(number, slot)| (slot.id, number)).collect();
        let mut fleet = Self { slots, numbers };
        for job in &snapshot.jobs {
            if let Some(number) = fleet.number(&job.host) {
                fleet.reserve(number, job.reservation);
            }
        }
        fleet
    }

    pub(crate) fn number(&self, host: &HostId) -> Option<usize> {
        self.numbers.get(host).copied()
    }

    pub(crate) fn slot(&self, number: usize) -> &Slot<'a> {
        &self.slots[number]
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = (usize, &Slot<'a>)> {
        self.slots.iter().enumerate()
    }

    /// A host that is not known is as good as lost.
    pub(crate) fn standing(&self, host: &HostId) -> Standing {
        self.number(host).map_or(Standing::Lost, |number| self.slots[number].standing)
    }

    pub(crate) fn reserve(&mut self, number: usize, reservation: Reservation) {
        let slot = &mut self.slots[number];
        slot.used.memory.0 = slot.used.memory.0.saturating_add(reservation.memory.0);
        slot.used.cpu.0 = slot.used.cpu.0.saturating_add(reservation.cpu.0);
        let part = |used: u64, of: u64| used.saturating_mul(1024) / of.max(1);
        let (used, of) = (slot.used, slot.host.capacity);
        slot.load = part(used.memory.0, of.memory.0).max(part(used.cpu.0, of.cpu.0));
    }
}

impl Slot<'_> {
    pub(crate) fn has_tags(&self, process: &Process) -> bool {
        process.tags.iter().all(|(key, value)| self.host.tags.get(key) == Some(value))
    }

    /// Whether a job of this type may be started here, room aside.
    pub(crate) fn takes(&self, process: &Process) -> bool {
        self.standing == Standing::Serving && self.has_tags(process)
    }

    pub(crate) fn free(&self) -> Reservation {
        let mut free = self.host.capacity;
        free.memory.0 = free.memory.0.saturating_sub(self.used.memory.0);
        free.cpu.0 = free.cpu.0.saturating_sub(self.used.cpu.0);
        free
    }

    pub(crate) fn has_room(&self, wanted: Reservation) -> bool {
        let free = self.free();
        wanted.memory <= free.memory && wanted.cpu <= free.cpu
    }

    /// A number that orders equally good hosts, another one for each `seed`.
    pub(crate) fn tie(&self, seed: u64) -> u64 {
        mix(self.salt ^ seed)
    }
}

fn standing(state: HostState, policy: &Policy, now: Mono) -> Standing {
    match state {
        HostState::Serving => Standing::Serving,
        HostState::Draining => Standing::Draining,
        HostState::Silent { since } if now.since(since) >= policy.lost_after => Standing::Lost,
        HostState::Silent { .. } => Standing::Awaited,
    }
}

/// FNV-1a: any even spread does, as long as it is the same on every machine.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finishing step of splitmix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
