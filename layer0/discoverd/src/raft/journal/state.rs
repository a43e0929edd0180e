//! What the journal knows while it runs, and the making of frames.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use super::super::store::StoreError;
use super::super::types::LogId;
use super::Done;
use super::frame::{Frame, Kind};
use super::index::Index;

/// The journal in memory.
#[derive(Debug)]
pub(super) struct State {
    pub(super) index: Index,
    /// The newest commit that was heard of, and the newest in a frame.
    pub(super) committed: Option<LogId>,
    pub(super) written_committed: Option<LogId>,
    /// The file that is written to, and where the next frame goes.
    pub(super) active: usize,
    pub(super) end: u64,
    /// The number of the last frame, and of the last one on disk.
    pub(super) number: u64,
    pub(super) synced: u64,
    /// The highest index each file ever held; None while it is empty.
    pub(super) files: [Option<u64>; 2],
    pub(super) queue: Vec<Write>,
    pub(super) closing: bool,
    pub(super) failed: Option<Arc<str>>,
}

/// A frame on its way to disk.
pub(super) struct Write {
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) number: u64,
    /// The end of the log once it is there.
    pub(super) last: Option<LogId>,
    pub(super) done: Option<Done>,
}

impl Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Write").field("number", &self.number).finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn usable(&self) -> Result<(), StoreError> {
        match &self.failed {
            None => Ok(()),
            Some(reason) => Err(StoreError::Log(io::Error::other(reason.to_string()))),
        }
    }

    /// Goes on in the other file, whose first frame says what this one no longer has to.
    pub(super) fn switch(&mut self, done: Option<Done>) {
        self.active = 1 - self.active;
        self.end = 0;
        self.files[self.active] = Some(0);
        let mut frame = Frame::new();
        frame.add(Kind::Start, &[]);
        // A log id always can be written; one that were missing would be found out at the next start.
        if let Some(Ok(purged)) = self.index.purged().map(|id| encode("purged log id", &id)) {
            frame.add(Kind::Purge, &purged);
        }
        self.enqueue(frame, done);
    }

    pub(super) fn add_committed(&mut self, frame: &mut Frame) -> Result<(), StoreError> {
        if let Some(committed) = self.committed.filter(|_| self.committed > self.written_committed)
        {
            frame.add(Kind::Committed, &encode("committed log id", &committed)?);
            self.written_committed = Some(committed);
        }
        Ok(())
    }

    pub(super) fn enqueue(&mut self, frame: Frame, done: Option<Done>) {
        self.number += 1;
        let bytes = frame.finish(self.number, self.synced);
        let (file, offset) = (self.active, self.end);
        self.end += to_long(bytes.len());
        let (number, last) = (self.number, self.index.last());
        self.queue.push(Write { file, offset, bytes, number, last, done });
    }
}

pub(super) fn encode<T: serde::Serialize>(
    what: &'static str,
    value: &T,
) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|source| StoreError::Unreadable { what, source })
}

pub(super) fn to_long(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
