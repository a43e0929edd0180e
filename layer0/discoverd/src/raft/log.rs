//! The library's view of the log on disk. What is answered as done is on disk.
//!
//! The library waits for a leader's own disk before it sends an entry to others. Here a leader's entries
//! are called stored at once, so that its disk and those of the others work at the same time, and what
//! that promise is used for waits instead: nothing is applied ([`Log::save_committed`]) and no member is
//! told of a commit ([`super::network`]) before the leader's disk has it. A leader that restarts may
//! therefore lack entries of its term that others have, and never leads in that term again
//! ([`Log::read_vote`]).

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, ErrorSubject, ErrorVerb, OptionalSend, RaftLogReader};

use super::journal::{completion, wait};
use super::store::{Store, StoreError};
use super::types::{Entry, LogId, NodeId, StorageError, StorageIOError, Types, Vote};

/// The log of one member.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    store: Store,
    id: NodeId,
    /// Under which this member leads; None while it does not.
    leads: Option<Vote>,
}

impl Log {
    pub(crate) fn new(store: Store, id: NodeId) -> Self {
        Self { store, id, leads: None }
    }

    /// Whether these are new entries of this member as the leader, not copies of another's.
    fn are_own(&self, entries: &[Entry]) -> bool {
        self.leads.is_some_and(|vote| {
            entries.iter().all(|entry| entry.log_id.leader_id == vote.leader_id)
        })
    }
}

fn failed(subject: ErrorSubject<u64>, verb: ErrorVerb, error: &StoreError) -> StorageError {
    StorageError::IO { source: StorageIOError::new(subject, verb, AnyError::new(error)) }
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
        if let Some(entries) = self.store.journal().warm_entries(&range) {
            return Ok(entries);
        }
        let (store, range) = (self.store.clone(), owned(&range));
        on_disk(ErrorSubject::Logs, ErrorVerb::Read, move || store.journal().entries(&range)).await
    }
}

fn owned(range: &impl RangeBounds<u64>) -> (Bound<u64>, Bound<u64>) {
    (range.start_bound().cloned(), range.end_bound().cloned())
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let journal = self.store.journal();
        Ok(LogState { last_purged_log_id: journal.purged(), last_log_id: journal.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let (subject, verb) = (ErrorSubject::Vote, ErrorVerb::Write);
        // Votes and entries reach the disk in the order in which they were made.
        let settled = self.store.on_disk(self.store.journal().last()).await;
        settled.map_err(|error| failed(subject.clone(), verb, &error))?;
        self.leads = (vote.committed && vote.leader_id.node_id == self.id).then_some(*vote);
        let (store, vote) = (self.store.clone(), *vote);
        on_disk(subject, verb, move || store.set_vote(&vote)).await
    }

    /// The term this member led before is over: see above.
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let (store, id) = (self.store.clone(), self.id);
        let vote = on_disk(ErrorSubject::Vote, ErrorVerb::Read, move || store.vote()).await?;
        let own = |vote: &Vote| vote.leader_id.node_id == id;
        Ok(vote.map(|vote| Vote { committed: vote.committed && !own(&vote), ..vote }))
    }

    /// Waits for this member's own disk where [`append`](Self::append) did not.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        if self.leads.is_some() {
            let settled = self.store.on_disk(committed).await;
            settled.map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Write, &error))?;
        }
        self.store.journal().commit(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.store.journal().committed())
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
        let entries: Vec<Entry> = entries.into_iter().collect();
        let journal = self.store.journal();
        let appended = if self.are_own(&entries) {
            let appended = journal.append(entries, Box::new(drop));
            callback.log_io_completed(Ok(()));
            appended
        } else {
            journal.append(entries, Box::new(|written| callback.log_io_completed(written)))
        };
        appended.map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Write, &error))
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let store = self.store.clone();
        on_disk(ErrorSubject::Logs, ErrorVerb::Delete, move || {
            let (done, written) = completion();
            store.journal().truncate(log_id.index, done)?;
            wait(&written)
        })
        .await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let store = self.store.clone();
        on_disk(ErrorSubject::Logs, ErrorVerb::Delete, move || {
            let (done, written) = completion();
            store.journal().purge(log_id, done)?;
            wait(&written)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
