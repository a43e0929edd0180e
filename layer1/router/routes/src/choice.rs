//! Which backend one request tries next: the sticky one first, then the less busy of two drawn at
//! random, never one it has tried, and one that should be avoided only when there is no other.

/// How many backends a request tries at most.
pub const MAX_ATTEMPTS: usize = 4;

/// The backends one request has tried, and its randomness.
#[derive(Clone, Debug)]
pub struct Choice {
    tried: [usize; MAX_ATTEMPTS],
    attempts: usize,
    state: u64,
}

impl Choice {
    /// A request that tried nothing yet. Its draws follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { tried: [0; MAX_ATTEMPTS], attempts: 0, state: seed }
    }

    /// The next of `count` backends to try, by index: `preferred` if it was not tried, else the one
    /// with fewer requests of two drawn at random; `avoided` ones after all others. None when all were
    /// tried or the attempts are used up.
    pub fn next(
        &mut self,
        count: usize,
        preferred: Option<usize>,
        avoided: impl Fn(usize) -> bool,
        in_flight: impl Fn(usize) -> u64,
    ) -> Option<usize> {
        let left = count.saturating_sub(self.attempts);
        if left == 0 || self.attempts == MAX_ATTEMPTS {
            return None;
        }
        let fresh = preferred
            .filter(|index| *index < count && !self.tried().contains(index) && !avoided(*index));
        let picked = fresh.unwrap_or_else(|| self.less_busy(count, avoided, in_flight));
        self.remember(picked);
        Some(picked)
    }

    fn less_busy(
        &mut self,
        count: usize,
        avoided: impl Fn(usize) -> bool,
        in_flight: impl Fn(usize) -> u64,
    ) -> usize {
        let left = count - self.attempts;
        if left == 1 {
            return self.untried(0);
        }
        let first = draw(&mut self.state, left);
        let other = draw(&mut self.state, left - 1);
        let second = if other >= first { other + 1 } else { other };
        let drawn = [first, second].map(|nth| self.good_from(self.untried(nth), count, &avoided));
        let [first, second] = drawn;
        if in_flight(second) < in_flight(first) { second } else { first }
    }

    /// This backend, or the next one after it that was not tried and is not avoided; if there is none, this.
    fn good_from(&self, drawn: usize, count: usize, avoided: impl Fn(usize) -> bool) -> usize {
        let from = (drawn..count).chain(0..drawn);
        let mut good = from.filter(|index| !avoided(*index) && !self.tried().contains(index));
        good.next().unwrap_or(drawn)
    }

    /// The index of the `nth` backend that was not tried; `tried` is sorted.
    fn untried(&self, nth: usize) -> usize {
        self.tried().iter().fold(nth, |index, tried| index + usize::from(*tried <= index))
    }

    fn tried(&self) -> &[usize] {
        &self.tried[..self.attempts]
    }

    fn remember(&mut self, index: usize) {
        self.tried[self.attempts] = index;
        self.attempts += 1;
        self.tried[..self.attempts].sort_unstable();
    }
}

/// The indices below `count` in random order, `preferred` first: how upgrades and TCP connections
/// try backends.
pub fn shuffled(count: usize, preferred: Option<usize>, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = seed;
    for last in (1..count).rev() {
        order.swap(last, draw(&mut state, last + 1));
    }
    if let Some(at) = order.iter().position(|index| Some(*index) == preferred) {
        order[..=at].rotate_right(1);
    }
    order
}

/// A number below `bound` (splitmix64, reduced by multiplication).
fn draw(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let scaled = (u128::from(mixed) * bound as u128) >> 64;
    usize::try_from(scaled).unwrap_or(0)
}
