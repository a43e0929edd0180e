//! The best host for each of a number of equal jobs: the fewest jobs of the same type first, then the
//! least loaded. Nothing here knows volumes or back-off.
//!
//! Made once per process type in O(hosts), whatever the number of types: only as many candidates are
//! kept sorted as there are jobs to place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::Reservation;
use crate::fleet::Fleet;

/// Smaller is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    same_type: u32,
    load: u64,
    tie: u64,
    number: usize,
}

/// Candidates in order.
#[derive(Debug)]
pub(crate) struct Ranking {
    heap: BinaryHeap<Reverse<Rank>>,
    reservation: Reservation,
}

impl Ranking {
    /// Ranks the `candidates` that have room. `same_type` says how many jobs of the type a host has
    /// (none when it is not in it), `jobs` how many are to be placed.
    pub(crate) fn new(
        fleet: &Fleet<'_>,
        candidates: impl Iterator<Item = usize>,
        same_type: &BTreeMap<usize, u32>,
        seed: u64,
        reservation: Reservation,
        jobs: usize,
    ) -> Self {
        let mut ranks: Vec<Rank> = candidates
            .filter(|number| fleet.slot(*number).has_room(reservation))
            .map(|number| {
                let slot = fleet.slot(number);
                let same_type = same_type.get(&number).copied().unwrap_or(0);
                Rank { same_type, load: slot.load, tie: slot.tie(seed), number }
            })
            .collect();
        // `jobs` placements never touch more than the `jobs` best hosts: all jobs are equal, and a host
        // only gets worse by taking one.
        if ranks.len() > jobs && jobs > 0 {
            ranks.select_nth_unstable(jobs - 1);
            ranks.truncate(jobs);
        }
        Self { heap: ranks.into_iter().map(Reverse).collect(), reservation }
    }

    /// Takes the best host and reserves its room.
    pub(crate) fn take(&mut self, fleet: &mut Fleet<'_>) -> Option<usize> {
        let Reverse(best) = self.heap.pop()?;
        fleet.reserve(best.number, self.reservation);
        let slot = fleet.slot(best.number);
        if slot.has_room(self.reservation) {
            self.heap.push(Reverse(Rank {
                same_type: best.same_type + 1,
                load: slot.load,
                ..best
            }));
        }
        Some(best.number)
    }
}
