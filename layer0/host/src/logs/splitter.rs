//! Output bytes to lines. A line is complete at its newline, at the longest length, or at the end.

use super::record::MAX_LINE;

/// The unfinished line of one stream.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    partial: Vec<u8>,
    offset: u64,
}

/// A complete line and the offset behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) end: u64,
    pub(crate) body: Vec<u8>,
}

impl Splitter {
    /// A stream read from `offset` on.
    pub(crate) fn starting_at(offset: u64) -> Self {
        Self { partial: Vec::new(), offset }
    }

    /// Bytes that begin at `offset`; what was seen already is skipped.
    pub(crate) fn push(&mut self, offset: u64, bytes: &[u8]) -> Vec<Line> {
        let seen = self.offset.saturating_sub(offset);
        let fresh =
            usize::try_from(seen).ok().and_then(|seen| bytes.get(seen..)).unwrap_or_default();
        self.offset = self.offset.max(offset);
        let mut lines = Vec::new();
        for byte in fresh {
            self.offset += 1;
            if *byte == b'\n' {
                lines.push(self.line());
                continue;
            }
            self.partial.push(*byte);
            if self.partial.len() == MAX_LINE {
                lines.push(self.line());
            }
        }
        lines
    }

    /// What is left when the stream has ended.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        (!self.partial.is_empty()).then(|| self.line())
    }

    fn line(&mut self) -> Line {
        Line { end: self.offset, body: std::mem::take(&mut self.partial) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_repetitions_do_not_matter() {
        let mut splitter = Splitter::starting_at(0);
        let mut lines = splitter.push(0, b"hel");
        lines.extend(splitter.push(0, b"hello wor"));
        lines.extend(splitter.push(9, b"ld\n\nx"));
        lines.extend(splitter.finish());
        let got: Vec<_> = lines.iter().map(|line| (line.end, line.body.as_slice())).collect();
        assert_eq!(got, [(12, &b"hello world"[..]), (13, b""), (14, b"x")]);
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn long_lines_are_cut() {
        let mut splitter = Splitter::starting_at(5);
        let lines = splitter.push(5, &vec![b'x'; MAX_LINE * 2 + 3]);
        assert_eq!(
            lines.iter().map(|line| line.body.len()).collect::<Vec<_>>(),
            [MAX_LINE, MAX_LINE]
        );
        assert_eq!(splitter.finish().unwrap().body.len(), 3);
    }
}
