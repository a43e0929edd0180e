//! Which lines of a log were told, so that a log that is asked for again goes on where it stopped: no line
//! twice, none left out. Lines of one job and stream come in the order of their times.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset};

/// Streams that are remembered; the ones that were silent for longest are forgotten first, and lines as
/// old as they are not told again.
const MAX_STREAMS: usize = 1024;

type Time = DateTime<FixedOffset>;
/// A job and what it prints to.
type Source = (String, String);

/// The last line told of a source.
#[derive(Clone, Copy, Debug)]
struct Last {
    at: Time,
    /// Lines told that have this very time.
    lines: u32,
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    told: BTreeMap<Source, Last>,
    /// What comes again since the log was asked for again.
    repeated: BTreeMap<Source, Last>,
    /// Lines before it are not told, whoever's they are.
    since: Option<Time>,
}

impl Seen {
    /// Whether no line was told yet.
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// From now on lines come from the log's beginning again; those before the first told one, which was
    /// not the log's first, are not wanted.
    pub(super) fn again(&mut self, first_told: Option<Time>) {
        self.repeated = self.told.clone();
        self.since = self.since.max(first_told);
    }

    /// Whether a line was not told yet; it then counts as told.
    pub(super) fn is_new(&mut self, job: &str, stream: &str, at: Option<Time>) -> bool {
        // A line without a time cannot be compared with others.
        let Some(at) = at else { return true };
        let source = (job.to_owned(), stream.to_owned());
        match self.repeated.get_mut(&source) {
            Some(last) if at < last.at => return false,
            Some(last) if at == last.at && last.lines > 0 => {
                last.lines -= 1;
                return false;
            }
            Some(_) => {}
            None if self.since.is_some_and(|since| at < since) => return false,
            None => {}
        }
        self.note(source, at);
        true
    }

    fn note(&mut self, source: Source, at: Time) {
        let last = self.told.entry(source).or_insert(Last { at, lines: 0 });
        if at > last.at {
            *last = Last { at, lines: 1 };
        } else if at == last.at {
            last.lines += 1;
        }
        if self.told.len() > MAX_STREAMS {
            let oldest = self.told.iter().min_by_key(|(_, last)| last.at);
            if let Some((source, at)) = oldest.map(|(source, last)| (source.clone(), last.at)) {
                self.told.remove(&source);
                self.repeated.remove(&source);
                self.since = self.since.max(Some(at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Option<Time> {
        DateTime::from_timestamp(second, 0).map(|time| time.fixed_offset())
    }

    /// Which of the lines, each of a job and a second, are new.
    fn new(seen: &mut Seen, lines: &[(&str, i64)]) -> Vec<bool> {
        lines.iter().map(|(job, second)| seen.is_new(job, "stdout", at(*second))).collect()
    }

    #[test]
    fn a_log_asked_for_again_goes_on_after_what_was_told() {
        let mut seen = Seen::default();
        assert_eq!(new(&mut seen, &[("a", 1), ("b", 2), ("a", 2), ("a", 2)]), [true; 4]);
        seen.again(None);
        // The same again, then a third line of the same time, and a job that was not heard before.
        let lines = [("a", 1), ("b", 2), ("a", 2), ("a", 2), ("a", 2), ("c", 1), ("b", 3)];
        assert_eq!(new(&mut seen, &lines), [false, false, false, false, true, true, true]);
        seen.again(None);
        assert_eq!(new(&mut seen, &lines), [false; 7]);
        assert!(seen.is_new("a", "stderr", at(1)));
    }

    #[test]
    fn lines_before_the_first_one_wanted_do_not_come_late() {
        let mut seen = Seen::default();
        assert_eq!(new(&mut seen, &[("a", 5)]), [true]);
        seen.again(at(5));
        assert_eq!(new(&mut seen, &[("a", 4), ("b", 4), ("b", 5)]), [false, false, true]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::default();
        for second in 0..=1024_i64 {
            assert!(seen.is_new(&format!("job-{second}"), "stdout", at(second)));
        }
        assert_eq!(seen.told.len(), MAX_STREAMS);
        seen.again(None);
        assert!(!seen.is_new("job-1", "stdout", at(1)));
    }
}
