//! The figures of the planner, in one place, and the one rule about restarting what keeps ending.

use std::time::Duration;

use kit_clock::Mono;

/// Figures an operator may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A host that was silent for this long is lost: its jobs are started elsewhere.
    pub lost_after: Duration,
    /// A job that ran this long has recovered: its line of restarts begins anew.
    pub stable_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { lost_after: Duration::from_secs(60), stable_after: Duration::from_secs(300) }
    }
}

impl Policy {
    /// How often a job's line has been restarted once this job is replaced, and when that may happen:
    /// at once for the first five, after 10 s for the next ten, after 30 s from then on.
    pub fn retry(&self, restarts: u32, ran_for: Duration, now: Mono) -> (u32, Mono) {
        let so_far = if ran_for >= self.stable_after { 0 } else { restarts };
        let delay = match so_far {
            0..5 => Duration::ZERO,
            5..15 => Duration::from_secs(10),
            _ => Duration::from_secs(30),
        };
        (so_far.saturating_add(1), now + delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_slow_down_and_recovery_resets_them() {
        let policy = Policy::default();
        let short = Duration::from_secs(1);
        for (restarts, seconds) in [(0, 0), (4, 0), (5, 10), (14, 10), (15, 30), (1000, 30)] {
            let (next, at) = policy.retry(restarts, short, Mono::ZERO);
            assert_eq!((next, at), (restarts + 1, Mono::ZERO + Duration::from_secs(seconds)));
        }
        assert_eq!(policy.retry(99, Duration::from_secs(301), Mono::ZERO), (1, Mono::ZERO));
    }
}
