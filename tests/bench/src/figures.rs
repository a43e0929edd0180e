//! Numbers of several runs: smallest, median, largest; and what a process has cost.

/// What /proc counts processor time in (USER_HZ of Linux on amd64).
const TICKS_PER_SECOND: f64 = 100.0;

/// What a series of runs gave, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn append(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// What so many of a hundred are below; the largest for 100.
    pub(crate) fn percentile(&self, share: usize) -> f64 {
        let sorted = self.sorted();
        let at = (sorted.len() * share / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }

    /// `median (smallest to largest) unit`.
    pub(crate) fn tell(&self, unit: &str) -> String {
        let sorted = self.sorted();
        let least = sorted.first().copied().unwrap_or(f64::NAN);
        let most = sorted.last().copied().unwrap_or(f64::NAN);
        format!("{:.2} {unit} ({least:.2} to {most:.2}, {} runs)", self.median(), self.0.len())
    }

    /// How many times the peer's each run gave: what changes on the machine from run to run changes both.
    pub(crate) fn over(&self, peer: &Self) -> Self {
        Self(self.0.iter().zip(&peer.0).map(|(own, peer)| own / peer).collect())
    }
}

/// Seconds of processor time a process has had (proc(5): utime and stime of /proc/PID/stat).
pub(crate) fn processor_time(pid: i32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let words: Vec<_> = text.rsplit(')').next()?.split_whitespace().collect();
    let number = |at: usize| words.get(at)?.parse::<u64>().ok();
    Some((number(11)? + number(12)?) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::Series;

    #[test]
    fn the_median_is_in_the_middle_of_what_was_added_in_any_order() {
        let mut series = Series::default();
        for value in [5.0, 1.0, 3.0] {
            series.add(value);
        }
        assert_eq!(series.tell("ms"), "3.00 ms (1.00 to 5.00, 3 runs)");
    }

    #[test]
    fn percentiles_are_of_all_that_was_appended() {
        let [mut all, mut more] = [Series::default(), Series::default()];
        (1..=60).rev().for_each(|value| all.add(f64::from(value)));
        (61..=200).for_each(|value| more.add(f64::from(value)));
        all.append(&more);
        assert_eq!([0, 50, 99, 100].map(|share| all.percentile(share)), [1.0, 101.0, 199.0, 200.0]);
        assert!(Series::default().percentile(99).is_nan());
    }

    #[test]
    fn runs_are_compared_with_those_of_the_same_time() {
        let [mut own, mut peer] = [Series::default(), Series::default()];
        for (one, other) in [(1.0, 2.0), (20.0, 10.0), (3.0, 2.0)] {
            own.add(one);
            peer.add(other);
        }
        assert_eq!(own.over(&peer).tell("times"), "1.50 times (0.50 to 2.00, 3 runs)");
    }
}
