//! Whether a host restarts a job that ended, and after how long (design D10): a job with `resurrect`
//! belongs to its host, which restarts it whenever it ended without a stop request.

use std::time::Duration;

use kit_backoff::Backoff;

/// How a job ended, as far as the rule cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The job asks to be restarted.
    pub resurrect: bool,
    /// Somebody asked for its end.
    pub stop_requested: bool,
    /// How long its program ran.
    pub ran_for: Duration,
    /// How many ended soon after their start, one after the other, before this one.
    pub quick_ends: u32,
}

/// What to do about a job that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Leave it ended.
    Leave(Stay),
    /// Start a successor.
    Restart {
        /// After this long.
        delay: Duration,
        /// What the successor's `quick_ends` is.
        quick_ends: u32,
    },
}

/// Why a job is left ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// It does not ask to be restarted; its scheduler decides.
    NotOurs,
    /// Its end was asked for.
    Stopped,
}

/// The rule's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartRule {
    /// The first delay; doubled with each quick end.
    pub base: Duration,
    /// The longest delay.
    pub max: Duration,
    /// A job that ran this long was well: its next delay is the first one again.
    pub well_after: Duration,
}

impl Default for RestartRule {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            max: Duration::from_secs(60),
            well_after: Duration::from_secs(60),
        }
    }
}

impl RestartRule {
    /// What to do about a job that ended thus. `seed` spreads the delays of several.
    pub fn decide(&self, outcome: Outcome, seed: u64) -> Decision {
        if outcome.stop_requested {
            return Decision::Leave(Stay::Stopped);
        }
        if !outcome.resurrect {
            return Decision::Leave(Stay::NotOurs);
        }
        let was_well = outcome.ran_for >= self.well_after;
        let quick_ends = if was_well { 0 } else { outcome.quick_ends.saturating_add(1) };
        Decision::Restart { delay: self.delay(quick_ends, seed), quick_ends }
    }

    /// The delay after so many quick ends. Past 32 the step has long reached its maximum.
    fn delay(&self, quick_ends: u32, seed: u64) -> Duration {
        let mut backoff = Backoff::new(self.base, self.max, seed);
        for _ in 1..quick_ends.clamp(1, 32) {
            backoff.next_delay();
        }
        backoff.next_delay()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CRASH: Outcome = Outcome {
        resurrect: true,
        stop_requested: false,
        ran_for: Duration::from_secs(1),
        quick_ends: 0,
    };

    #[test]
    fn only_jobs_of_the_host_that_nobody_stopped_come_back() {
        let rule = RestartRule::default();
        let stopped = Outcome { stop_requested: true, ..CRASH };
        assert_eq!(rule.decide(stopped, 1), Decision::Leave(Stay::Stopped));
        let user = Outcome { resurrect: false, ..CRASH };
        assert_eq!(rule.decide(user, 1), Decision::Leave(Stay::NotOurs));
        assert!(matches!(rule.decide(CRASH, 1), Decision::Restart { quick_ends: 1, .. }));
    }

    #[test]
    fn a_job_that_was_well_starts_from_the_first_delay() {
        let rule = RestartRule::default();
        let well = Outcome { ran_for: Duration::from_secs(61), quick_ends: 9, ..CRASH };
        let Decision::Restart { delay, quick_ends } = rule.decide(well, 5) else { panic!() };
        assert!(quick_ends == 0 && delay <= rule.base);
    }

    proptest! {
        #[test]
        fn delays_grow_and_are_bounded(quick_ends in 0_u32..1000, seed in any::<u64>()) {
            let rule = RestartRule::default();
            let delay = |quick_ends| match rule.decide(Outcome { quick_ends, ..CRASH }, seed) {
                Decision::Restart { delay, .. } => delay,
                Decision::Leave(_) => Duration::MAX,
            };
            prop_assert!(delay(quick_ends) <= rule.max);
            prop_assert!(delay(quick_ends) >= rule.base / 2);
            // Two steps further the lower half of the step is above the upper half of this one.
            if quick_ends < 4 {
                prop_assert!(delay(quick_ends + 2) > delay(quick_ends));
            }
        }
    }
}
