//! The library's view of the log on disk. What is answered as done is on disk.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, ErrorSubject, ErrorVerb, OptionalSend, RaftLogReader};

use super::store::{Store, StoreError};
use super::types::{Entry, LogId, StorageError, StorageIOError, Types, Vote};

/// The log of one member.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    store: Store,
}

impl Log {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

/// Runs work that waits for the disk where it holds up nobody else.
pub(crate) async fn on_disk<T, F>(
    subject: ErrorSubject<u64>,
    verb: ErrorVerb,
    work: F,
) -> Result<T, StorageError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StoreError> + Send + 'static,
{
    let failed =
        |error: AnyError| StorageError::IO { source: StorageIOError::new(subject, verb, error) };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(AnyError::new(&error))),
        Err(error) => Err(failed(AnyError::new(&error))),
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let (store, range) = (self.store.clone(), owned(&range));
        on_disk(ErrorSubject::Logs, ErrorVerb::Read, move || store.entries(range)).await
    }
}

fn owned(range: &impl RangeBounds<u64>) -> (Bound<u64>, Bound<u64>) {
    (range.start_bound().cloned(), range.end_bound().cloned())
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let store = self.store.clone();
        on_disk(ErrorSubject::Logs, ErrorVerb::Read, move || {
            let last_purged_log_id = store.purged()?;
            let last = store.last_entry()?.map(|entry| entry.log_id);
            Ok(LogState { last_purged_log_id, last_log_id: last.or(last_purged_log_id) })
        })
        .await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let (store, vote) = (self.store.clone(), *vote);
        on_disk(ErrorSubject::Vote, ErrorVerb::Write, move || store.set_vote(&vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let store = self.store.clone();
        on_disk(ErrorSubject::Vote, ErrorVerb::Read, move || store.vote()).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let store = self.store.clone();
        on_disk(ErrorSubject::Store, ErrorVerb::Write, move || store.set_committed(committed)).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let store = self.store.clone();
        on_disk(ErrorSubject::Store, ErrorVerb::Read, move || store.committed()).await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let store = self.store.clone();
        let entries: Vec<Entry> = entries.into_iter().collect();
        on_disk(ErrorSubject::Logs, ErrorVerb::Write, move || store.append(&entries)).await?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let store = self.store.clone();
        on_disk(ErrorSubject::Logs, ErrorVerb::Delete, move || store.truncate(log_id.index)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let store = self.store.clone();
        on_disk(ErrorSubject::Logs, ErrorVerb::Delete, move || store.purge(log_id)).await
    }
}
