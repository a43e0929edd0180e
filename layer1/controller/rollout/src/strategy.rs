//! The strategies and their next step.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::ProcessCounts;

/// How the old release is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All of the new, then none of the old.
    AllAtOnce,
    /// Per process type: one more of the new, one less of the old.
    OneByOne,
    /// As one by one, this many at a time.
    InBatches {
        /// Jobs a step; 0 counts as 1.
        size: u32,
    },
    /// Per process type: one less of the old, one more of the new. For apps that must not have more
    /// jobs than wanted at any time.
    OneDownOneUp,
}

/// A strategy this crate does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deployment: unknown strategy {0:?}")]
pub struct UnknownStrategy(pub String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    /// The names of the wire; `in-batches` gets a size of 1, to be replaced by the caller.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "all-at-once" => Ok(Self::AllAtOnce),
            "one-by-one" => Ok(Self::OneByOne),
            "in-batches" => Ok(Self::InBatches { size: 1 }),
            "one-down-one-up" => Ok(Self::OneDownOneUp),
            other => Err(UnknownStrategy(other.to_owned())),
        }
    }
}

/// What both formations ask for now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of the release that is replaced.
    pub old: ProcessCounts,
    /// Of the release that comes.
    pub new: ProcessCounts,
}

/// One change of one formation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Set the new formation and wait until its jobs are up.
    ScaleNew(ProcessCounts),
    /// Set the old formation; with `wait`, until its surplus jobs are down.
    ScaleOld {
        /// The counts to set.
        counts: ProcessCounts,
        /// Whether the next step waits for it.
        wait: bool,
    },
    /// Nothing is left to do.
    Done,
}

/// What to do next. `wanted` has the counts the new release shall end with; types the new release
/// does not have are simply not in it.
pub fn next_step(strategy: Strategy, wanted: &ProcessCounts, now: &Counts) -> Step {
    match strategy {
        Strategy::AllAtOnce => all_at_once(wanted, now),
        Strategy::OneByOne => gradually(wanted, now, 1, Order::UpFirst),
        Strategy::InBatches { size } => gradually(wanted, now, size.max(1), Order::UpFirst),
        Strategy::OneDownOneUp => gradually(wanted, now, 1, Order::DownFirst),
    }
}

fn all_at_once(wanted: &ProcessCounts, now: &Counts) -> Step {
    if wanted.iter().any(|(name, count)| count_of(&now.new, name) != *count) {
        return Step::ScaleNew(wanted.clone());
    }
    if now.old.values().any(|count| *count > 0) {
        let counts = now.old.keys().map(|name| (name.clone(), 0)).collect();
        return Step::ScaleOld { counts, wait: false };
    }
    Step::Done
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    UpFirst,
    DownFirst,
}

/// The first process type, in order of names, that is not where it shall be takes one step.
fn gradually(wanted: &ProcessCounts, now: &Counts, size: u32, order: Order) -> Step {
    let names: BTreeSet<&String> = wanted.keys().chain(now.old.keys()).collect();
    for name in names {
        let (target, old, new) =
            (count_of(wanted, name), count_of(&now.old, name), count_of(&now.new, name));
        let missing = target.saturating_sub(new);
        let up = || Step::ScaleNew(with(&now.new, name, new + missing.min(size)));
        let down = |by: u32| {
            let counts = with(&now.old, name, old.saturating_sub(by));
            Step::ScaleOld { counts, wait: true }
        };
        let total = old.saturating_add(new);
        match (missing, old) {
            (0, 0) => {}
            (0, _) => return down(size),
            (_, 0) => return up(),
            (..) => {
                let surplus = total.saturating_sub(target);
                return match order {
                    Order::UpFirst if surplus > 0 => down(surplus.min(size)),
                    Order::UpFirst => up(),
                    Order::DownFirst if total >= target => down(1),
                    Order::DownFirst => up(),
                };
            }
        }
    }
    Step::Done
}

fn count_of(counts: &ProcessCounts, name: &str) -> u32 {
    counts.get(name).copied().unwrap_or(0)
}

fn with(counts: &ProcessCounts, name: &str, count: u32) -> ProcessCounts {
    let mut changed = counts.clone();
    changed.insert(name.to_owned(), count);
    changed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use proptest::strategy::Strategy as Values;

    use super::*;

    fn counts(pairs: &[(&str, u32)]) -> ProcessCounts {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    /// Carries steps out until done; gives what was seen after each.
    fn run(strategy: Strategy, wanted: &ProcessCounts, start: Counts) -> Vec<Counts> {
        let (mut now, mut seen) = (start, Vec::new());
        for _ in 0..10_000 {
            match next_step(strategy, wanted, &now) {
                Step::ScaleNew(new) => now.new = new,
                Step::ScaleOld { counts, .. } => now.old = counts,
                Step::Done => return seen,
            }
            seen.push(now.clone());
        }
        panic!("no end: {now:?}");
    }

    fn web(strategy: Strategy, count: u32) -> Vec<(u32, u32)> {
        let wanted = counts(&[("web", count)]);
        let start = Counts { old: wanted.clone(), new: ProcessCounts::new() };
        let seen = run(strategy, &wanted, start);
        seen.iter().map(|now| (count_of(&now.old, "web"), count_of(&now.new, "web"))).collect()
    }

    #[test]
    fn each_strategy_takes_its_own_way() {
        assert_eq!(web(Strategy::AllAtOnce, 3), [(3, 3), (0, 3)]);
        assert_eq!(web(Strategy::OneByOne, 2), [(2, 1), (1, 1), (1, 2), (0, 2)]);
        assert_eq!(web(Strategy::OneDownOneUp, 2), [(1, 0), (1, 1), (0, 1), (0, 2)]);
        assert_eq!(web(Strategy::InBatches { size: 2 }, 3), [(3, 2), (1, 2), (1, 3), (0, 3)]);
    }

    #[test]
    fn a_type_the_new_release_lacks_only_goes_down() {
        let start = Counts { old: counts(&[("gone", 2)]), new: ProcessCounts::new() };
        let seen = run(Strategy::OneByOne, &counts(&[]), start);
        let left: Vec<_> = seen.iter().map(|now| count_of(&now.old, "gone")).collect();
        assert_eq!(left, [1, 0]);
        assert!(seen.iter().all(|now| now.new.is_empty()));
    }

    #[test]
    fn an_unknown_strategy_is_named() {
        let error = "sideways".parse::<Strategy>().unwrap_err();
        assert_eq!(error.to_string(), "deployment: unknown strategy \"sideways\"");
    }

    fn strategies() -> impl Values<Value = Strategy> {
        prop_oneof![
            Just(Strategy::AllAtOnce),
            Just(Strategy::OneByOne),
            Just(Strategy::OneDownOneUp),
            (0_u32..5).prop_map(|size| Strategy::InBatches { size }),
        ]
    }

    fn formations() -> impl Values<Value = ProcessCounts> {
        prop::collection::btree_map("[a-c]", 0_u32..6, 0..4)
    }

    proptest! {
        #[test]
        fn every_deployment_ends_where_it_should(
            strategy in strategies(), wanted in formations(), old in formations(), new in formations(),
        ) {
            // A worker may take over anywhere: the new formation never has more than wanted.
            let new: ProcessCounts =
                new.iter().map(|(name, count)| (name.clone(), (*count).min(count_of(&wanted, name)))).collect();
            let seen = run(strategy, &wanted, Counts { old: old.clone(), new: new.clone() });
            let last = seen.last().cloned().unwrap_or(Counts { old, new });
            prop_assert!(last.old.values().all(|count| *count == 0), "{last:?}");
            for (name, count) in &wanted {
                prop_assert_eq!(count_of(&last.new, name), *count);
            }
        }

        #[test]
        fn strategies_that_go_up_first_never_serve_with_fewer_than_before(
            old in formations(), size in 0_u32..9, drops in prop::collection::btree_set("[a-c]", 0..2),
        ) {
            // Types that the new release lacks are meant to go.
            let wanted: ProcessCounts =
                old.clone().into_iter().filter(|(name, _)| !drops.contains(name)).collect();
            let most = [(Strategy::AllAtOnce, u32::MAX), (Strategy::OneByOne, 1)];
            let batches = (Strategy::InBatches { size }, size.max(1));
            for (strategy, surplus) in most.into_iter().chain([batches]) {
                let start = Counts { old: old.clone(), new: ProcessCounts::new() };
                for now in run(strategy, &wanted, start) {
                    for (name, count) in &wanted {
                        let serving = count_of(&now.old, name) + count_of(&now.new, name);
                        prop_assert!(serving >= *count, "{strategy:?}: {name} in {now:?}");
                        let most = count.saturating_add(surplus.min(*count));
                        prop_assert!(serving <= most, "{strategy:?}: {name} in {now:?}");
                    }
                }
            }
        }

        #[test]
        fn whoever_takes_over_takes_the_same_steps(
            strategy in strategies(), old in formations(), at in 0_usize..40,
        ) {
            let start = Counts { old: old.clone(), new: ProcessCounts::new() };
            let seen = run(strategy, &old, start.clone());
            let states: Vec<&Counts> = std::iter::once(&start).chain(&seen).collect();
            let taken_over = states[at % states.len()].clone();
            let rest = run(strategy, &old, taken_over);
            prop_assert_eq!(&seen[seen.len() - rest.len()..], &rest[..]);
        }

        #[test]
        fn one_down_one_up_never_runs_more_than_wanted(count in 1_u32..8) {
            for (old, new) in web(Strategy::OneDownOneUp, count) {
                prop_assert!(old + new <= count);
            }
        }
    }
}
