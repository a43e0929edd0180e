//! The hosts while a plan is made: what each has left, and whether a job may go there. Hosts are
//! numbered, so that ranking thousands of them compares numbers and not texts.

use std::collections::{BTreeMap, BTreeSet};

use kit_clock::Mono;
use kit_ids::HostId;

use crate::{Host, HostState, Policy, Process, Reservation, Snapshot};

/// All hosts of a snapshot, by number.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    slots: Vec<Slot<'a>>,
    numbers: BTreeMap<&'a HostId, usize>,
    /// The serving hosts, the least loaded first. Made when the first job is to be placed.
    order: Option<BTreeSet<Place>>,
}

/// A host's place among those that serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    load: u64,
    /// Jobs that reserve nothing spread too.
    jobs: u32,
    salt: u64,
    number: usize,
}

/// A full host's load.
const FULL: u64 = 1 << 20;

/// One host.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) id: &'a HostId,
    host: &'a Host,
    pub(crate) standing: Standing,
    used: Reservation,
    jobs: u32,
    /// Breaks ties between equally good hosts.
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
                jobs: 0,
                salt: mix(hash(id.as_str())),
            })
            .collect();
        let numbers = slots.iter().enumerate().map(|(number, slot)| (slot.id, number)).collect();
        Self { slots, numbers, order: None }
    }

    /// When the next of the awaited hosts counts as lost.
    pub(crate) fn next_loss(&self, policy: &Policy) -> Option<Mono> {
        let awaited = self.slots.iter().filter(|slot| slot.standing == Standing::Awaited);
        let lost_at = awaited.filter_map(|slot| match slot.host.state {
            HostState::Silent { since } => Some(since + policy.lost_after),
            HostState::Serving | HostState::Draining => None,
        });
        lost_at.min()
    }

    pub(crate) fn number(&self, host: &HostId) -> Option<usize> {
        self.numbers.get(host).copied()
    }

    pub(crate) fn slot(&self, number: usize) -> &Slot<'a> {
        &self.slots[number]
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = (usize, &Slot<'a>)> {
        self.slots.iter().enumerate()
    }

    /// A host that is not known is as good as lost.
    pub(crate) fn standing(&self, host: &HostId) -> Standing {
        self.number(host).map_or(Standing::Lost, |number| self.slots[number].standing)
    }

    /// The serving hosts, the least loaded first.
    pub(crate) fn least_loaded(&mut self) -> impl Iterator<Item = (usize, &Slot<'a>)> {
        let slots = &self.slots;
        let order = self.order.get_or_insert_with(|| {
            let serving = slots.iter().enumerate();
            let serving = serving.filter(|(_, slot)| slot.standing == Standing::Serving);
            serving.map(|(number, slot)| slot.place(number)).collect()
        });
        order.iter().map(|place| (place.number, &slots[place.number]))
    }

    pub(crate) fn reserve(&mut self, number: usize, reservation: Reservation) {
        let slot = &mut self.slots[number];
        let before = slot.place(number);
        slot.add(reservation);
        let after = slot.place(number);
        if let Some(order) = &mut self.order
            && order.remove(&before)
        {
            order.insert(after);
        }
    }

    /// Counts a job that is there already: as [`reserve`](Self::reserve), before any is placed.
    pub(crate) fn count(&mut self, number: usize, reservation: Reservation) {
        debug_assert!(self.order.is_none(), "jobs that are there are counted first");
        self.slots[number].add(reservation);
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

    /// How full the host is, by its scarcer resource.
    pub(crate) fn load(&self) -> u64 {
        let part = |used: u64, of: u64| {
            u64::try_from(u128::from(used) * u128::from(FULL) / u128::from(of.max(1)))
                .unwrap_or(u64::MAX)
        };
        let (used, of) = (self.used, self.host.capacity);
        part(used.memory.0, of.memory.0).max(part(used.cpu.0, of.cpu.0))
    }

    pub(crate) fn jobs(&self) -> u32 {
        self.jobs
    }

    pub(crate) fn salt(&self) -> u64 {
        self.salt
    }

    fn add(&mut self, reservation: Reservation) {
        self.used.memory.0 = self.used.memory.0.saturating_add(reservation.memory.0);
        self.used.cpu.0 = self.used.cpu.0.saturating_add(reservation.cpu.0);
        self.jobs = self.jobs.saturating_add(1);
    }

    fn place(&self, number: usize) -> Place {
        Place { load: self.load(), jobs: self.jobs, salt: self.salt, number }
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
fn hash(text: &str) -> u64 {
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
