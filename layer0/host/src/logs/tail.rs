//! One app's files line by line, oldest first, then whatever is added, across rotations. Its calls block
//! on the page cache for at most one batch.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::writer::files_of;

/// Bytes read at one time.
const BATCH: usize = 256 * 1024;
/// A line is longer only when a disk was damaged; such a line is dropped.
const MAX_LINE: usize = 64 * 1024;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the oldest line.
    History,
    /// So many bytes before the end, or with the oldest line when there are fewer.
    Recent(u64),
    /// With what is written from now on.
    Now,
}

/// Reads one app's lines.
#[derive(Debug)]
pub(super) struct Tail {
    dir: PathBuf,
    stem: String,
    /// Files still to be read, oldest first.
    queue: VecDeque<PathBuf>,
    current: Option<File>,
    buffer: Vec<u8>,
}

impl Tail {
    pub(super) fn open(dir: &Path, stem: &str, start: Start) -> io::Result<Self> {
        let mut queue: VecDeque<_> = files_of(dir, stem).into();
        let current = match start {
            Start::History => None,
            Start::Recent(bytes) => seek_back(&mut queue, bytes)?,
            Start::Now => {
                let newest = seek_back(&mut queue, 0)?;
                queue.clear();
                newest
            }
        };
        let (dir, stem) = (dir.to_owned(), stem.to_owned());
        Ok(Self { dir, stem, queue, current, buffer: Vec::new() })
    }

    /// Gives `each` the complete lines of the next piece, without newlines. False once everything there
    /// is was read; ask again when more was written.
    pub(super) fn read(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(false);
            }
            if self.fill()? > 0 {
                self.take_lines(each);
                return Ok(true);
            }
            if !self.leave_if_rotated(each)? {
                return Ok(false);
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let Some(file) = &mut self.current else { return Ok(0) };
        let before = self.buffer.len();
        file.take(BATCH as u64).read_to_end(&mut self.buffer)?;
        Ok(self.buffer.len() - before)
    }

    fn take_lines(&mut self, each: &mut dyn FnMut(&[u8])) {
        let mut at = 0;
        while let Some(length) = self.buffer[at..].iter().position(|byte| *byte == b'\n') {
            each(&self.buffer[at..at + length]);
            at += length + 1;
        }
        self.buffer.drain(..at);
        if self.buffer.len() > MAX_LINE {
            self.buffer.clear();
        }
    }

    /// At the end of a file: whether there is a next one.
    fn leave_if_rotated(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let Some(file) = &self.current else { return self.open_next() };
        if self.queue.is_empty() {
            let own = identity(&file.metadata()?);
            let newer = newer_than(own, files_of(&self.dir, &self.stem));
            if newer.is_empty() {
                return Ok(false);
            }
            // Between the last read and now the file may have got its last lines.
            if self.fill()? > 0 {
                self.take_lines(each);
                return Ok(true);
            }
            self.queue = newer;
        }
        self.current = None;
        self.buffer.clear();
        self.open_next()
    }

    fn open_next(&mut self) -> io::Result<bool> {
        if self.queue.is_empty() && self.current.is_none() {
            self.queue = files_of(&self.dir, &self.stem).into();
        }
        while let Some(path) = self.queue.pop_front() {
            match File::open(&path) {
                Ok(file) => {
                    self.current = Some(file);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// Opens the file that holds the byte so many before the end of all; older ones leave the queue.
fn seek_back(queue: &mut VecDeque<PathBuf>, bytes: u64) -> io::Result<Option<File>> {
    let mut newer = VecDeque::new();
    let mut left = bytes;
    while let Some(path) = queue.pop_back() {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let size = file.metadata()?.len();
        if size >= left || queue.is_empty() {
            file.seek(SeekFrom::Start(size.saturating_sub(left)))?;
            *queue = newer;
            return Ok(Some(file));
        }
        left -= size;
        newer.push_front(path);
    }
    *queue = newer;
    Ok(None)
}

/// Of files in order, those after the one with this identity; all when it is gone.
fn newer_than(own: (u64, u64), files: Vec<PathBuf>) -> VecDeque<PathBuf> {
    let is_own =
        |path: &PathBuf| std::fs::metadata(path).is_ok_and(|about| identity(&about) == own);
    let from = files.iter().position(is_own).map_or(0, |at| at + 1);
    files.into_iter().skip(from).collect()
}

fn identity(about: &std::fs::Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}
