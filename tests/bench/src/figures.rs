//! Numbers of several runs: smallest, median, largest.

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
