//! The log on disk: rows of frames in two files that take turns. One thread writes what was queued,
//! however much it is, with one write and one sync, into space that was filled with zeros before, so that
//! a sync moves data alone. A file is emptied once a snapshot holds all its entries.
//!
//! Appending does not wait for the disk: what is appended is there to be read at once, and is answered
//! for when its sync is done. Why not redb: docs/adr/0009-journal.md.

mod file;
mod frame;
mod index;
mod recover;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use redb::StorageBackend;
use tokio::sync::watch;

pub(super) use self::file::DiskFile;
use self::frame::{Frame, Kind};
use self::index::{Held, Index, Place};
use self::recover::Recovered;
use self::state::{State, Write, encode, to_long};
use super::store::StoreError;
use super::types::{Entry, LogId};

/// Two files that are not synced in any order but by the journal.
pub(super) type Files = [Box<dyn StorageBackend>; 2];

/// Sizes, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// How much space is filled with zeros at a time.
    pub(super) extent: u64,
    /// A file of this size is followed by the other one as soon as that is empty.
    pub(super) full: u64,
    /// The newest entries stay in memory up to this much text.
    pub(super) warm: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { extent: 1 << 20, full: 4 << 20, warm: 1 << 20 }
    }
}

/// Told when a write is on disk or cannot be.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// How far the log is on disk.
#[derive(Clone, Debug)]
pub(super) struct Durable {
    pub(super) last: Option<LogId>,
    /// Nothing more will be: why.
    pub(super) failed: Option<Arc<str>>,
}

/// The log of one member.
#[derive(Debug)]
pub(super) struct Journal {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    files: Files,
    sizes: Sizes,
    state: Mutex<State>,
    work: Condvar,
    durable: watch::Sender<Durable>,
}

impl Journal {
    /// Opens the journal in these files.
    pub(super) fn open(files: Files, sizes: Sizes) -> Result<Self, StoreError> {
        let found = recover::recover(&files)?;
        let found = found.ok_or(StoreError::Damaged("its beginning is gone"))?;
        Ok(Self::start(files, sizes, found))
    }

    /// Makes a journal that begins behind `purged` in place of whatever is in these files.
    pub(super) fn create(
        files: Files,
        sizes: Sizes,
        purged: Option<LogId>,
    ) -> Result<Self, StoreError> {
        for file in &files {
            file.set_len(0)?;
            file.sync_data()?;
        }
        let mut index = Index::default();
        if let Some(purged) = purged {
            index.purge(purged);
        }
        let files_hold = [None, None];
        let found =
            Recovered { index, committed: None, active: 1, end: 0, number: 0, files: files_hold };
        let journal = Self::start(files, sizes, found);
        let (done, written) = completion();
        journal.lock().switch(Some(done));
        journal.shared.work.notify_one();
        wait(&written)?;
        Ok(journal)
    }

    fn start(files: Files, sizes: Sizes, found: Recovered) -> Self {
        let Recovered { index, committed, active, end, number, files: hold } = found;
        let durable = Durable { last: index.last(), failed: None };
        let state = State {
            index,
            committed,
            written_committed: committed,
            active,
            end,
            number,
            synced: number,
            files: hold,
            queue: Vec::new(),
            closing: false,
            failed: None,
        };
        let shared = Arc::new(Shared {
            files,
            sizes,
            state: Mutex::new(state),
            work: Condvar::new(),
            durable: watch::Sender::new(durable),
        });
        let writing = Arc::clone(&shared);
        let writer = std::thread::Builder::new().name("log-writer".to_owned());
        let writer = writer.spawn(move || writer::run(&writing));
        if let Err(error) = &writer {
            shared.fail(&io::Error::other(error.to_string()));
        }
        Self { shared, writer: writer.ok() }
    }

    /// Adds entries, which can be read at once. Those of the same indices and behind them are gone.
    pub(super) fn append(&self, entries: Vec<Entry>, done: Done) -> Result<(), StoreError> {
        let texts = entries.iter().map(|entry| encode("log entry", entry));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let mut state = self.lock();
        state.usable()?;
        let first = entries.first().map(|entry| entry.log_id.index);
        let follow = |pair: &[Entry]| pair[0].log_id.index + 1 == pair[1].log_id.index;
        if !first.is_none_or(|first| state.index.fits(first)) || !entries.windows(2).all(follow) {
            return Err(StoreError::Damaged("an entry would leave a gap"));
        }
        self.turn(&mut state);
        let mut frame = Frame::new();
        state.add_committed(&mut frame)?;
        let (file, offset) = (state.active, state.end);
        for (entry, text) in entries.into_iter().zip(&texts) {
            let log_id = entry.log_id;
            let at = frame.add(Kind::Entry, text);
            let place = Place { file, offset: offset + to_long(at.start), length: at.len() };
            let number = state.number + 1;
            state.index.push(entry, place, number);
            state.files[file] = state.files[file].max(Some(log_id.index));
        }
        state.enqueue(frame, Some(done));
        let synced = state.synced;
        state.index.cool(self.shared.sizes.warm, synced);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Drops the entries from `from` on: another leader's log won.
    pub(super) fn truncate(&self, from: u64, done: Done) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.usable()?;
        state.index.truncate(from);
        let mut frame = Frame::new();
        frame.add(Kind::Truncate, &from.to_le_bytes());
        state.enqueue(frame, Some(done));
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Drops the entries up to `upto`: a snapshot holds them.
    pub(super) fn purge(&self, upto: LogId, done: Done) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.usable()?;
        state.index.purge(upto);
        let mut frame = Frame::new();
        frame.add(Kind::Purge, &encode("purged log id", &upto)?);
        state.enqueue(frame, Some(done));
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Notes how far the log is committed. It reaches the disk with the next entry: one that is behind
    /// only means that entries are applied a little later after a restart.
    pub(super) fn commit(&self, upto: Option<LogId>) {
        let mut state = self.lock();
        state.committed = state.committed.max(upto);
    }

    /// How far the log is known to be committed.
    pub(super) fn committed(&self) -> Option<LogId> {
        let state = self.lock();
        state.committed.min(state.index.last())
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.lock().index.purged()
    }

    /// The newest entry, or where the log was purged up to.
    pub(super) fn last(&self) -> Option<LogId> {
        self.lock().index.last()
    }

    /// The entries of a range, if none of them has to be read from disk.
    pub(super) fn warm_entries(&self, range: &impl RangeBounds<u64>) -> Option<Vec<Entry>> {
        let state = self.lock();
        let warm = state.index.is_warm(range).then(|| state.index.held(range))?;
        let here = warm.into_iter().filter_map(|held| match held {
            Held::Here(entry) => Some(entry),
            Held::There(_) => None,
        });
        Some(here.collect())
    }

    /// The entries of a range that are there.
    pub(super) fn entries(&self, range: &impl RangeBounds<u64>) -> Result<Vec<Entry>, StoreError> {
        // Held while the disk is read, so that no file is emptied meanwhile.
        let state = self.lock();
        let read = |held| match held {
            Held::Here(entry) => Ok(entry),
            Held::There(Place { file, offset, length }) => {
                let mut text = vec![0; length];
                self.shared.files[file].read(offset, &mut text)?;
                let read = serde_json::from_slice(&text);
                read.map_err(|source| StoreError::Unreadable { what: "log entry", source })
            }
        };
        state.index.held(range).into_iter().map(read).collect()
    }

    /// The end of what is on disk up to `index`: all of it, or what there is.
    pub(super) fn on_disk_upto(&self, upto: Option<LogId>) -> Option<LogId> {
        let state = self.lock();
        let durable = self.shared.durable.borrow().last;
        if durable >= upto { upto } else { durable.and_then(|last| state.index.log_id(last.index)) }
    }

    /// How far the log is on disk, now and later.
    pub(super) fn durable(&self) -> watch::Receiver<Durable> {
        self.shared.durable.subscribe()
    }

    /// The next frame goes to the other file when this one is full and that one empty.
    fn turn(&self, state: &mut State) {
        let other = 1 - state.active;
        if state.end >= self.shared.sizes.full && state.files[other].is_none() {
            state.switch(None);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Drop for Journal {
    /// Ends after what was queued is on disk.
    fn drop(&mut self) {
        let mut state = self.lock();
        let mut frame = Frame::new();
        if state.usable().is_ok()
            && state.committed > state.written_committed
            && state.add_committed(&mut frame).is_ok()
        {
            state.enqueue(frame, None);
        }
        state.closing = true;
        drop(state);
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.take() {
            // One that panicked has nothing more to write.
            drop(writer.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing is written: what a failed sync left on disk is unknown.
    fn fail(&self, error: &io::Error) -> Vec<Write> {
        let reason: Arc<str> = error.to_string().into();
        let mut state = self.lock();
        state.failed.get_or_insert(Arc::clone(&reason));
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        self.durable.send_modify(|durable| durable.failed = Some(reason));
        queue
    }
}

/// What tells that a write is done, and where it is heard.
pub(super) fn completion() -> (Done, mpsc::Receiver<io::Result<()>>) {
    let (sender, receiver) = mpsc::sync_channel(1);
    // Nobody may listen any more.
    (Box::new(move |outcome| drop(sender.try_send(outcome))), receiver)
}

/// Waits for a write where that holds up nobody.
pub(super) fn wait(written: &mpsc::Receiver<io::Result<()>>) -> Result<(), StoreError> {
    let ended = |_| io::Error::other("the log has ended");
    written.recv().unwrap_or_else(|error| Err(ended(error))).map_err(StoreError::Log)
}
