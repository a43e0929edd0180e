//! Output kept on disk, numbered by byte offset, bounded: a daemon that was away reads on from where
//! it stopped. Not a log: it ends with the job's directory.
//!
//! A stream is a row of segment files `<stream>.<offset of their first byte>`; when the bound is
//! reached the oldest segment goes. Between three quarters of the bound and the bound stay readable.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kit_units::Bytes;

use crate::protocol::{SPOOL_NAME, Stream, StreamReport};

const SEGMENTS: u64 = 4;

/// One stream's spool.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    stream: Stream,
    segment_size: u64,
    segments: VecDeque<Segment>,
    end: u64,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    length: u64,
    file: File,
}

/// What [`Spool::read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Offset of the first byte read; later than asked for when older ones were dropped.
    pub offset: u64,
    /// How many bytes were read; zero at the end.
    pub count: usize,
}

impl Spool {
    /// An empty spool in the job's directory.
    pub(crate) fn create(job_dir: &Path, stream: Stream, bound: Bytes) -> io::Result<Self> {
        let folder = job_dir.join(SPOOL_NAME);
        fs::create_dir_all(&folder)?;
        let segment_size = (bound.0 / SEGMENTS).max(4096);
        Ok(Self { folder, stream, segment_size, segments: VecDeque::new(), end: 0 })
    }

    /// What a supervisor left in the job's directory; for a daemon that comes back after it ended.
    pub fn open(job_dir: &Path, stream: Stream) -> io::Result<Self> {
        let folder = job_dir.join(SPOOL_NAME);
        let mut segments = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some((kind, start)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            if let (true, Ok(start)) = (kind == stream.name(), start.parse()) {
                let file = File::open(entry.path())?;
                segments.push(Segment { start, length: file.metadata()?.len(), file });
            }
        }
        segments.sort_by_key(|segment| segment.start);
        let end = segments.last().map_or(0, |last| last.start + last.length);
        Ok(Self { folder, stream, segment_size: u64::MAX, segments: segments.into(), end })
    }

    /// Offset of the oldest byte that is still there.
    pub fn start(&self) -> u64 {
        self.segments.front().map_or(self.end, |first| first.start)
    }

    /// Offset after the newest byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Both ends.
    pub fn report(&self) -> StreamReport {
        StreamReport { stream: self.stream, start: self.start(), end: self.end() }
    }

    /// Reads from `offset` on, or from the oldest byte when that is later.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<Found> {
        let offset = offset.clamp(self.start(), self.end);
        let holds = |segment: &&Segment| offset < segment.start + segment.length;
        let Some(segment) = self.segments.iter().find(holds) else {
            return Ok(Found { offset, count: 0 });
        };
        let inside = offset - segment.start;
        let room = buffer.len().min(usize::try_from(segment.length - inside).unwrap_or(usize::MAX));
        let count = segment.file.read_at(&mut buffer[..room], inside)?;
        Ok(Found { offset, count })
    }

    /// Adds output. What cannot be written (a full disk) counts as dropped: the job goes on.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len() as u64;
        if self.try_append(bytes).is_err() {
            self.forget_all();
            self.end = end;
        }
    }

    fn try_append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.segments.back().map_or(0, |last| self.segment_size - last.length);
            if room == 0 {
                self.begin_segment()?;
                continue;
            }
            let count = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            if let Some(last) = self.segments.back_mut() {
                last.file.write_all_at(&bytes[..count], last.length)?;
                last.length += count as u64;
            }
            self.end += count as u64;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        if self.segments.len() as u64 >= SEGMENTS {
            self.forget_oldest();
        }
        let path = self.path(self.end);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        self.segments.push_back(Segment { start: self.end, length: 0, file });
        Ok(())
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.segments.pop_front() {
            // A file that stays is only disk space, and goes with the job's directory.
            let _ = fs::remove_file(self.path(oldest.start));
        }
    }

    fn forget_all(&mut self) {
        while !self.segments.is_empty() {
            self.forget_oldest();
        }
    }

    fn path(&self, start: u64) -> PathBuf {
        self.folder.join(format!("{}.{start:020}", self.stream.name()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(spool: &Spool, from: u64) -> (u64, Vec<u8>) {
        let mut all = Vec::new();
        let mut buffer = [0; 1000];
        let first = spool.read(from, &mut buffer).unwrap().offset;
        let mut at = first;
        loop {
            let found = spool.read(at, &mut buffer).unwrap();
            assert_eq!(found.offset, at);
            if found.count == 0 {
                return (first, all);
            }
            all.extend_from_slice(&buffer[..found.count]);
            at += found.count as u64;
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_newest_and_enough(pieces in prop::collection::vec(1usize..9000, 1..40), ask in 0u64..100_000) {
            let dir = tempfile::tempdir().unwrap();
            let bound = 16 * 1024;
            let mut spool = Spool::create(dir.path(), Stream::Stdout, Bytes(bound)).unwrap();
            let mut written = Vec::new();
            for (at, size) in pieces.iter().enumerate() {
                let piece: Vec<u8> = (0..*size).map(|n| (n + at) as u8).collect();
                spool.append(&piece);
                written.extend_from_slice(&piece);
            }
            prop_assert_eq!(spool.end(), written.len() as u64);
            prop_assert!(spool.end() - spool.start() <= bound);
            prop_assert!(spool.start() == 0 || spool.end() - spool.start() > bound / 4 * 3 - 1);
            for reader in [&spool, &Spool::open(dir.path(), Stream::Stdout).unwrap()] {
                let (from, bytes) = read_all(reader, ask);
                prop_assert_eq!(from, ask.clamp(spool.start(), spool.end()));
                prop_assert_eq!(&bytes[..], &written[from as usize..]);
            }
        }
    }

    #[test]
    fn bytes_that_cannot_be_written_are_counted_as_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path(), Stream::Stderr, Bytes(16 * 1024)).unwrap();
        spool.append(b"before");
        fs::remove_dir_all(dir.path().join(SPOOL_NAME)).unwrap();
        spool.append(&[1; 5000]);
        assert_eq!((spool.start(), spool.end()), (5006, 5006));
    }
}
