//! Whether a history of compare-and-swaps on one key can have happened one after another, each at one
//! moment between its request and its answer (Wing and Gong's search, with the states already tried
//! remembered). Reads may be old, so they only have to show something that was there before their answer.

use std::collections::HashSet;

/// Operations of one history: they are kept as bits.
pub(crate) const MOST: usize = 128;

/// What was asked, and what was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Swapped the version `expected` (0: none) for `stored`.
    Swapped { expected: u64, stored: u64 },
    /// Was refused: the version was another one.
    Refused { expected: u64 },
    /// Showed this version (0: none).
    Read { version: u64 },
}

/// An operation with its place in the history. Moments are those of one counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) operation: Operation,
    pub(crate) asked: u64,
    /// `u64::MAX` where no answer came and the effect was seen later.
    pub(crate) answered: u64,
}

impl Call {
    /// The earliest moment it may have happened: that of a read is open.
    fn earliest(&self) -> u64 {
        match self.operation {
            Operation::Read { .. } => 0,
            Operation::Swapped { .. } | Operation::Refused { .. } => self.asked,
        }
    }

    /// The version after it, if it can happen at `version`.
    fn happen(&self, version: u64) -> Option<u64> {
        match self.operation {
            Operation::Swapped { expected, stored } => {
                (expected == version && stored > version).then_some(stored)
            }
            Operation::Refused { expected } => (expected != version).then_some(version),
            Operation::Read { version: seen } => (seen == version).then_some(version),
        }
    }
}

/// Whether there is an order; the history starts without a version.
pub(crate) fn is_linearizable(calls: &[Call]) -> bool {
    assert!(calls.len() <= MOST, "{} operations are too many", calls.len());
    let all = if calls.len() == MOST { u128::MAX } else { (1_u128 << calls.len()) - 1 };
    let mut tried = HashSet::new();
    let mut open = vec![(0_u128, 0_u64)];
    while let Some((done, version)) = open.pop() {
        if done == all {
            return true;
        }
        if !tried.insert((done, version)) {
            continue;
        }
        let left = || (0..calls.len()).filter(|at| done & (1 << at) == 0);
        // Whatever comes next was asked before the first of the rest was answered.
        let first_answer = left().map(|at| calls[at].answered).min().unwrap_or(u64::MAX);
        for at in left().filter(|at| calls[*at].earliest() < first_answer) {
            if let Some(next) = calls[at].happen(version) {
                open.push((done | (1 << at), next));
            }
        }
    }
    false
}

#[test]
fn the_checker_tells_possible_from_impossible() {
    use Operation::{Read, Refused, Swapped};
    let call = |operation, asked, answered| Call { operation, asked, answered };
    let first = call(Swapped { expected: 0, stored: 5 }, 1, 10);
    let check = |more: &[Call]| is_linearizable(&[&[first], more].concat());
    assert!(check(&[call(Swapped { expected: 5, stored: 6 }, 11, 12)]));
    assert!(check(&[call(Refused { expected: 0 }, 2, 3)]), "at the same time, it may come second");
    assert!(check(&[call(Read { version: 0 }, 20, 21)]), "a read may be old");
    assert!(
        check(&[
            call(Swapped { expected: 5, stored: 9 }, 2, u64::MAX),
            call(Read { version: 9 }, 30, 31)
        ]),
        "what was not confirmed may have happened"
    );
    assert!(!check(&[call(Swapped { expected: 0, stored: 6 }, 2, 9)]), "an update was lost");
    assert!(!check(&[call(Refused { expected: 5 }, 11, 12)]), "nothing was in its way");
    assert!(!check(&[call(Read { version: 7 }, 20, 21)]), "nobody wrote it");
    assert!(
        !check(&[
            call(Swapped { expected: 5, stored: 6 }, 30, 31),
            call(Read { version: 6 }, 20, 21)
        ]),
        "a read shows no future"
    );
    assert!(!check(&[call(Swapped { expected: 5, stored: 4 }, 11, 12)]), "versions grow");
}
