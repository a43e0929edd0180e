//! The best host for each of a number of equal jobs: the fewest jobs of the same type first, then the
//! least loaded. Nothing here knows volumes or back-off.
//!
//! Made once per process type, from as many hosts as there are jobs to place: the fleet keeps its hosts
//! in order, so that a cluster of thousands is not looked through for each of thousands of types.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::Reservation;
use crate::fleet::{Fleet, Slot, Standing};

/// Smaller is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    same_type: u32,
    load: u64,
    jobs: u32,
    salt: u64,
    number: usize,
}

/// Candidates in order.
#[derive(Debug)]
pub(crate) struct Ranking {
    heap: BinaryHeap<Reverse<Rank>>,
    reservation: Reservation,
}

impl Ranking {
    /// Ranks the hosts that `accepts` and that have room. `same_type` says how many jobs of the type a
    /// host has (none when it is not in it), `jobs` how many are to be placed.
    pub(crate) fn new(
        fleet: &mut Fleet<'_>,
        accepts: impl Fn(&Slot<'_>) -> bool,
        same_type: &BTreeMap<usize, u32>,
        reservation: Reservation,
        jobs: usize,
    ) -> Self {
        let fits = |slot: &Slot<'_>| slot.has_room(reservation) && accepts(slot);
        // `jobs` placements never touch more than the `jobs` best hosts: all jobs are equal, and a host
        // only gets worse by taking one. Those without a job of the type are better than all others.
        let without: Vec<usize> = fleet
            .least_loaded()
            .filter(|(number, slot)| !same_type.contains_key(number) && fits(slot))
            .map(|(number, _)| number)
            .take(jobs)
            .collect();
        let with = same_type.iter().map(|(number, count)| (*number, *count));
        let with = with.filter(|(number, _)| {
            without.len() < jobs
                && fleet.slot(*number).standing == Standing::Serving
                && fits(fleet.slot(*number))
        });
        let ranks = without.iter().map(|number| (*number, 0)).chain(with);
        let heap = ranks.map(|(number, count)| Reverse(rank(fleet, number, count))).collect();
        Self { heap, reservation }
    }

    /// Takes the best host and reserves its room.
    pub(crate) fn take(&mut self, fleet: &mut Fleet<'_>) -> Option<usize> {
        let Reverse(best) = self.heap.pop()?;
        fleet.reserve(best.number, self.reservation);
        let slot = fleet.slot(best.number);
        if slot.has_room(self.reservation) {
            self.heap.push(Reverse(rank(fleet, best.number, best.same_type + 1)));
        }
        Some(best.number)
    }
}

fn rank(fleet: &Fleet<'_>, number: usize, same_type: u32) -> Rank {
    let slot = fleet.slot(number);
    Rank { same_type, load: slot.load(), jobs: slot.jobs(), salt: slot.salt(), number }
}
