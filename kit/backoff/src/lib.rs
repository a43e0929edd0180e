//! Jittered exponential back-off. The caller brings the randomness, so that pure crates can use it.
//!
//! ```
//! use kit_backoff::Backoff;
//! use std::time::Duration;
//! let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10), 42);
//! let first = backoff.next_delay();
//! assert!(first >= Duration::from_millis(50) && first <= Duration::from_millis(100));
//! ```
#![warn(missing_docs)]
#![forbid(unsafe_code)]

use std::time::Duration;

/// Doubles from `base` to `max`; every delay is drawn from the upper half of its step, so that many
/// clients that failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    attempts: u32,
    state: u64,
}

impl Backoff {
    /// A back-off whose jitter follows from `seed`.
    pub fn new(base: Duration, max: Duration, seed: u64) -> Self {
        Self { base, max, attempts: 0, state: seed }
    }

    /// How many delays were handed out since the last [`reset`](Self::reset).
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Success: the next delay is the first one again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next delay, between half of the step and the whole step.
    pub fn next_delay(&mut self) -> Duration {
        let doubled = self.base.saturating_mul(1_u32 << self.attempts.min(20));
        let step = doubled.min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        let half = step / 2;
        half + half.mul_f64(self.draw())
    }

    /// A number in 0..1 (splitmix64).
    fn draw(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // 53 bits are what an f64 holds exactly.
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_maximum_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8), 7);
        for step in [1_u64, 2, 4, 8, 8, 8] {
            let delay = backoff.next_delay();
            assert!(delay >= Duration::from_secs(step) / 2, "{delay:?} at step {step}");
            assert!(delay <= Duration::from_secs(step), "{delay:?} at step {step}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_secs(1));
    }

    #[test]
    fn two_seeds_do_not_march_in_step() {
        let delays = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), seed);
            (0..5).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
    }
}
