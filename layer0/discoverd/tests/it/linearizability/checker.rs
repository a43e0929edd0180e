//! Whether a history of compare-and-swaps on one key can have happened one after another, each at one
//! moment between its request and its answer (Wing and Gong's search, with the states already tried
//! remembered). Reads may be old, so they only have to show something that was there before their answer.
//!
//! What changes nothing is taken as soon as it can happen: an order that has it later is one that has it
//! now. So the search branches over swaps only; over everything, a few dozen reads and refusals at the
//! same time have more orders than a machine has memory.

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
        let done = with_all_that_changes_nothing(calls, done, version);
        if done == all {
            return true;
        }
        if tried.insert((done, version)) {
            let next = can_come_next(calls, done, version);
            open.extend(next.map(|(at, stored)| (done | (1 << at), stored)));
        }
    }
    false
}

/// `done`, and everything that can happen now and leaves the version as it is.
fn with_all_that_changes_nothing(calls: &[Call], mut done: u128, version: u64) -> u128 {
    loop {
        let same = can_come_next(calls, done, version).filter(|(_, after)| *after == version);
        let more = same.fold(done, |done, (at, _)| done | (1 << at));
        if more == done {
            return done;
        }
        done = more;
    }
}

/// What is not `done` and can happen next at `version`, each with the version after it.
fn can_come_next(
    calls: &[Call],
    done: u128,
    version: u64,
) -> impl Iterator<Item = (usize, u64)> + '_ {
    let left = move || (0..calls.len()).filter(move |at| done & (1 << at) == 0);
    // Whatever comes next was asked before the first of the rest was answered.
    let first_answer = left().map(|at| calls[at].answered).min().unwrap_or(u64::MAX);
    left()
        .filter(move |at| calls[*at].earliest() < first_answer)
        .filter_map(move |at| Some((at, calls[at].happen(version)?)))
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

#[test]
fn the_checker_needs_no_more_time_for_many_at_once() {
    let call = |operation, asked, answered| Call { operation, asked, answered };
    // Sixty refusals and sixty reads, all at the same time as two swaps.
    let mut calls = vec![
        call(Operation::Swapped { expected: 0, stored: 5 }, 0, 1_000),
        call(Operation::Swapped { expected: 5, stored: 6 }, 0, 1_000),
    ];
    for n in 0..60 {
        calls.push(call(Operation::Refused { expected: 5 * (n % 2) }, n, 1_000));
        calls.push(call(Operation::Read { version: 5 + n % 2 }, n, 1_000));
    }
    assert!(is_linearizable(&calls));
    calls.push(call(Operation::Read { version: 7 }, 0, 1_000));
    assert!(!is_linearizable(&calls), "nobody wrote 7, whatever the order");
}
