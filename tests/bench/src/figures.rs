//! Numbers of several runs: smallest, median, largest; and what a process has cost.

/// What /proc counts processor time in (USER_HZ of Linux on amd64).
const TICKS_PER_SECOND: f64 = 100.0;

/// What a series of runs gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// `median (smallest to largest) unit`.
    pub(crate) fn tell(&self, unit: &str) -> String {
        let least = self.0.first().copied().unwrap_or(f64::NAN);
        let most = self.0.last().copied().unwrap_or(f64::NAN);
        format!("{:.2} {unit} ({least:.2} to {most:.2}, {} runs)", self.median(), self.0.len())
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
}
