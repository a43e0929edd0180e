//! One app's newest lines in time order, each once. Pure: no clock, no lock.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::line::Line;

/// How many lines are kept of an app.
pub(crate) const CAPACITY: usize = 10_000;

/// Lines in time order; of lines with one time, in order of arrival.
#[derive(Debug)]
pub(crate) struct Buffer {
    lines: VecDeque<Arc<Line>>,
    capacity: usize,
    bytes: usize,
}

impl Buffer {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { lines: VecDeque::new(), capacity, bytes: 0 }
    }

    /// Puts a line in its place and drops the oldest one when there are too many. False for a line that is
    /// there already.
    pub(crate) fn insert(&mut self, line: Arc<Line>) -> bool {
        let mut place = self.lines.len();
        while place > 0 && self.lines[place - 1].time() > line.time() {
            place -= 1;
        }
        let same_time =
            self.lines.range(..place).rev().take_while(|other| other.time() == line.time());
        if same_time.into_iter().any(|other| other.is_same(&line)) {
            return false;
        }
        self.bytes += line.size();
        self.lines.insert(place, line);
        if self.lines.len() > self.capacity {
            self.drop_oldest();
        }
        true
    }

    pub(crate) fn drop_oldest(&mut self) {
        if let Some(oldest) = self.lines.pop_front() {
            self.bytes -= oldest.size();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What the lines take in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Line>> {
        self.lines.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(host: u8, second: u8, seq: u64) -> Arc<Line> {
        let text = format!(
            "<190>1 2026-01-02T03:04:{:02}Z host{host} app - ID1 [flynn seq=\"{seq}\"] {seq}",
            second % 60
        );
        Arc::new(Line::parse(text.as_bytes()).unwrap())
    }

    fn seqs(buffer: &Buffer) -> Vec<u64> {
        buffer.iter().map(|line| line.seq).collect()
    }

    fn filled(capacity: usize, lines: &[(u8, u64)]) -> Buffer {
        let mut buffer = Buffer::new(capacity);
        for (second, seq) in lines {
            buffer.insert(line(1, *second, *seq));
        }
        buffer
    }

    #[test]
    fn late_lines_find_their_place() {
        assert_eq!(seqs(&filled(9, &[(1, 1), (3, 3), (2, 2), (5, 5), (0, 0)])), [0, 1, 2, 3, 5]);
        assert_eq!(
            seqs(&filled(9, &[(1, 9), (1, 3), (1, 5)])),
            [9, 3, 5],
            "one time: as they came"
        );
    }

    #[test]
    fn a_line_sent_again_is_dropped_wherever_it_is() {
        let mut buffer = filled(9, &[(1, 1), (1, 2), (2, 3), (3, 4)]);
        for (second, seq) in [(3, 4), (2, 3), (1, 2), (1, 1)] {
            assert!(!buffer.insert(line(1, second, seq)), "{seq}");
        }
        assert!(buffer.insert(line(2, 1, 1)), "another host's line is another line");
        assert_eq!(buffer.iter().count(), 5);
    }

    #[test]
    fn the_newest_are_kept() {
        assert_eq!(seqs(&filled(3, &[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)])), [3, 4, 5]);
        assert_eq!(seqs(&filled(3, &[(3, 3), (4, 4), (5, 5), (1, 1)])), [3, 4, 5]);
    }

    proptest! {
        #[test]
        fn order_uniqueness_and_bounds_hold(
            capacity in 1_usize..20,
            sent in proptest::collection::vec((0_u8..2, 0_u8..6, 0_u64..4), 0..60),
        ) {
            let mut buffer = Buffer::new(capacity);
            let mut model: Vec<Arc<Line>> = Vec::new();
            for (host, second, seq) in sent {
                let line = line(host, second, seq);
                let is_new = !model.iter().any(|other| other.is_same(&line));
                prop_assert_eq!(buffer.insert(line.clone()), is_new);
                if is_new {
                    model.push(line);
                    model.sort_by(|a, b| a.time().cmp(b.time()));
                    if model.len() > capacity {
                        model.remove(0);
                    }
                }
                prop_assert_eq!(buffer.iter().cloned().collect::<Vec<_>>(), model.clone());
                prop_assert_eq!(buffer.bytes(), model.iter().map(|line| line.size()).sum::<usize>());
            }
        }
    }
}
