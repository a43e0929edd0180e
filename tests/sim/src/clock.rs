//! One machine's clocks: when they were started, how fast they go, what the wall clock is set to.

use std::time::Duration;

use kit_clock::{Mono, Wall};

use crate::Random;

/// The true time at which all runs start, as a span since the epoch.
const START: Duration = Duration::from_secs(1_700_000_000);

/// The clocks of one machine. The monotonic one is off by at most a thousandth; the wall clock jumps.
#[derive(Clone, Debug)]
pub struct NodeClock {
    origin: Duration,
    /// Parts per million that it goes too fast.
    fast: u32,
    ahead: Duration,
    behind: Duration,
    /// How long the machine was asleep, and since when it is.
    slept: Duration,
    asleep: Option<Duration>,
}

impl NodeClock {
    /// Clocks that started at a time of chance.
    pub fn new(random: &mut Random) -> Self {
        let fast = u32::try_from(random.below(1000)).unwrap_or_default();
        let (ahead, behind) = (random.millis(0, 5000), random.millis(0, 5000));
        let (slept, asleep) = (Duration::ZERO, None);
        Self { origin: random.millis(0, 100_000_000), fast, ahead, behind, slept, asleep }
    }

    /// The monotonic clock at this true time.
    pub fn mono(&self, now: Duration) -> Mono {
        let awake = self.asleep.unwrap_or(now).saturating_sub(self.slept);
        Mono::from_origin(self.origin + awake + awake / 1_000_000 * self.fast)
    }

    /// The wall clock at this true time.
    pub fn wall(&self, now: Duration) -> Wall {
        Wall::from_epoch((START + now + self.ahead).saturating_sub(self.behind))
    }

    /// The machine sleeps: its monotonic clock stands still.
    pub fn sleep(&mut self, now: Duration) {
        self.asleep.get_or_insert(now);
    }

    /// The machine is awake, if it was asleep.
    pub fn wake(&mut self, now: Duration) {
        if let Some(since) = self.asleep.take() {
            self.slept += now - since;
        }
    }

    /// Sets the wall clock.
    pub fn jump(&mut self, ahead: Duration, behind: Duration) {
        (self.ahead, self.behind) = (ahead, behind);
    }
}
