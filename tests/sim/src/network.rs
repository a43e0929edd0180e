//! Messages between nodes: late, lost, doubled, or cut off in one direction or both.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Random;

/// Who reaches whom, and how badly.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// How many faults cut this way.
    cuts: BTreeMap<(usize, usize), u32>,
    /// Of a hundred messages so many are lost.
    pub drops: u64,
    /// Of a hundred messages so many come twice.
    pub doubles: u64,
    /// Of a hundred messages so many take seconds.
    pub stragglers: u64,
}

impl Network {
    /// A network as bad as chance has it.
    pub fn bad(random: &mut Random) -> Self {
        let mut percent = |most: usize| random.below(most + 1) as u64;
        Self {
            cuts: BTreeMap::new(),
            drops: percent(15),
            doubles: percent(10),
            stragglers: percent(5),
        }
    }

    /// Loses, doubles and delays nothing any more, and reaches everybody.
    pub fn calm(&mut self) {
        *self = Self::default();
    }

    /// Whether a message gets through this way.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        from == to || !self.cuts.contains_key(&(from, to))
    }

    /// Cuts one way.
    pub fn cut(&mut self, from: usize, to: usize) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Undoes one [`cut`](Self::cut).
    pub fn mend(&mut self, from: usize, to: usize) {
        if let Some(faults) = self.cuts.get_mut(&(from, to)) {
            *faults -= 1;
            if *faults == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    /// How long each copy of a message takes; none when it is lost.
    pub fn send(&self, from: usize, to: usize, random: &mut Random) -> Vec<Duration> {
        if !self.reaches(from, to) || (from != to && random.chance(self.drops)) {
            return Vec::new();
        }
        let copies = 1 + usize::from(random.chance(self.doubles));
        (0..copies).map(|_| self.delay(random)).collect()
    }

    fn delay(&self, random: &mut Random) -> Duration {
        if random.chance(self.stragglers) { random.millis(500, 4000) } else { random.millis(1, 40) }
    }
}
