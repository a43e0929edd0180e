//! How the journal's bytes stand on disk. A file is a row of frames; what was appended by one call is one
//! frame, whole or not there. A frame is a head, then parts (entries and small facts), then zeros up to a
//! multiple of eight. The head holds a checksum, the frame's number, and the number up to which all frames
//! were on disk when it was made: that tells a torn end from a damaged middle.

use std::ops::Range;

/// Bytes of a head: magic, length of the body, number, synced number, checksum, zeros.
pub(super) const HEAD: usize = 32;
/// Bytes of a part's head: kind, zeros, length.
const PART: usize = 8;
const MAGIC: u32 = 0x314a_4c46;
const ALIGN: usize = 8;

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first part of a file.
    Start,
    /// An entry of the log, JSON.
    Entry,
    /// Entries from this index on are gone, eight bytes.
    Truncate,
    /// Entries up to this log id are gone, JSON.
    Purge,
    /// How far the log is committed, JSON.
    Committed,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Start => 1,
            Self::Entry => 2,
            Self::Truncate => 3,
            Self::Purge => 4,
            Self::Committed => 5,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        let all = [Self::Start, Self::Entry, Self::Truncate, Self::Purge, Self::Committed];
        all.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// A frame that is being made.
#[derive(Debug)]
pub(super) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; HEAD] }
    }

    /// Adds a part; gives where its data is within the frame.
    pub(super) fn add(&mut self, kind: Kind, data: &[u8]) -> Range<usize> {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&[kind.byte(), 0, 0, 0]);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(data);
        at..self.bytes.len()
    }

    /// The bytes of the frame with this number; all up to `synced` are on disk.
    pub(super) fn finish(mut self, number: u64, synced: u64) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len() - HEAD).unwrap_or(u32::MAX);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        self.bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&length.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&number.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&synced.to_le_bytes());
        let sum = checksum(&self.bytes, HEAD + length as usize);
        self.bytes[24..28].copy_from_slice(&sum.to_le_bytes());
        self.bytes
    }
}

/// A whole frame as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) synced: u64,
    body: Range<usize>,
    /// Where the next one begins.
    pub(super) end: usize,
}

impl Found {
    /// The frame that begins there, if there is a whole one.
    pub(super) fn at(file: &[u8], at: usize) -> Option<Self> {
        let rest = file.get(at..)?;
        let head = rest.get(..HEAD)?;
        if word(head, 0) != MAGIC {
            return None;
        }
        let length = usize::try_from(word(head, 4)).ok()?;
        let whole = rest.get(..HEAD.checked_add(length)?)?;
        if checksum(whole, whole.len()) != word(head, 24) {
            return None;
        }
        let body = at + HEAD..at + whole.len();
        let end = at + whole.len().next_multiple_of(ALIGN);
        Some(Self { number: long(head, 8), synced: long(head, 16), body, end })
    }

    /// Its parts and where their data is in the file. None of a part when it is of no known kind.
    pub(super) fn parts(&self, file: &[u8]) -> Vec<Option<(Kind, Range<usize>)>> {
        let mut parts = Vec::new();
        let mut at = self.body.start;
        while at + PART <= self.body.end {
            let length = word(&file[at..], 4) as usize;
            let data = at + PART..at + PART + length;
            at = data.end;
            if data.end > self.body.end {
                parts.push(None);
                break;
            }
            parts.push(Kind::of(file[data.start - PART]).map(|kind| (kind, data)));
        }
        parts
    }
}

/// Frames that begin somewhere after `from`, where no frame could be read any more.
pub(super) fn beyond(file: &[u8], from: usize) -> impl Iterator<Item = Found> {
    let first = from.next_multiple_of(ALIGN);
    (first..file.len()).step_by(ALIGN).filter_map(|at| Found::at(file, at))
}

/// Of the first `length` bytes but for the checksum itself.
fn checksum(bytes: &[u8], length: usize) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&bytes[..24]);
    sum.update(&bytes[HEAD..length]);
    sum.finalize()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut long = [0; 8];
    long.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(long)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Vec<u8> {
        let mut frame = Frame::new();
        frame.add(Kind::Start, &[]);
        frame.add(Kind::Entry, b"entry");
        frame.finish(7, 6)
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let mut file = vec![0; 16];
        file.extend(frame());
        let found = Found::at(&file, 16).unwrap();
        assert_eq!((found.number, found.synced, found.end), (7, 6, file.len()));
        let parts: Vec<_> = found.parts(&file).into_iter().flatten().collect();
        let texts: Vec<_> = parts.into_iter().map(|(kind, at)| (kind, &file[at])).collect();
        assert_eq!(texts, [(Kind::Start, b"".as_slice()), (Kind::Entry, b"entry")]);
        assert_eq!(beyond(&file, 1).map(|found| found.number).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn no_changed_or_missing_byte_goes_unseen() {
        let whole = frame();
        for at in 0..HEAD + 21 {
            if (28..32).contains(&at) {
                continue;
            }
            let mut changed = whole.clone();
            changed[at] ^= 4;
            assert!(Found::at(&changed, 0).is_none(), "byte {at}");
            assert!(Found::at(&whole[..at], 0).is_none(), "{at} bytes");
        }
    }
}
