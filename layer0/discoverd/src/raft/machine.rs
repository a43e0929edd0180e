//! The library's view of the registry: entries go in, snapshots come out and are kept on disk.

use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder,
};

use super::command::Answers;
use super::image;
use super::log::on_disk;
use super::store::{Store, StoreError};
use super::types::{
    Entry, LogId, Snapshot, SnapshotMeta, StorageError, StorageIOError, StoredMembership, Types,
};
use crate::state::{Change, State};

/// The registry of one member as the library drives it. Clones are the same machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    store: Store,
    state: Arc<State>,
    /// How far the registry is, in the library's terms. Locked around a change and its note, so that a
    /// snapshot shows both from the same moment.
    applied: Arc<Mutex<Applied>>,
}

#[derive(Clone, Debug, Default)]
struct Applied {
    last: Option<LogId>,
    membership: StoredMembership,
}

impl Machine {
    /// A machine that starts from the last snapshot on disk.
    pub(crate) fn open(store: Store, state: Arc<State>) -> Result<Self, StoreError> {
        let machine = Self { store, state, applied: Arc::default() };
        if let Some((meta, data)) = machine.store.snapshot()? {
            machine.adopt(&meta, &data)?;
        }
        Ok(machine)
    }

    fn adopt(&self, meta: &SnapshotMeta, data: &[u8]) -> Result<(), StoreError> {
        let read = image::decode(data);
        let snapshot =
            read.map_err(|source| StoreError::Unreadable { what: "snapshot", source })?;
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.replace(snapshot);
        *applied = Applied { last: meta.last_log_id, membership: meta.last_membership.clone() };
        Ok(())
    }

    fn apply_all(&self, entries: impl Iterator<Item = Entry>) -> Vec<Answers> {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = entries.map(|Entry { log_id, payload }| {
            applied.last = Some(log_id);
            match payload {
                EntryPayload::Blank => Change::Nothing,
                EntryPayload::Membership(membership) => {
                    applied.membership = StoredMembership::new(Some(log_id), membership);
                    Change::Nothing
                }
                EntryPayload::Normal(proposal) => {
                    Change::Commands(proposal.commands().iter().map(Into::into).collect())
                }
            }
        });
        // Collected first: the state is locked once for the whole batch.
        let changes: Vec<_> = changes.collect();
        self.state.apply(changes).into_iter().map(|results| Answers { results }).collect()
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answers>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        Ok(self.apply_all(entries.into_iter()))
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let (machine, meta, data) = (self.clone(), meta.clone(), snapshot.into_inner());
        let subject = ErrorSubject::Snapshot(Some(meta.signature()));
        on_disk(subject, ErrorVerb::Write, move || {
            machine.store.set_snapshot(&meta, data.clone())?;
            machine.adopt(&meta, &data)
        })
        .await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let store = self.store.clone();
        let found =
            on_disk(ErrorSubject::Snapshot(None), ErrorVerb::Read, move || store.snapshot());
        let whole = |(meta, data)| Snapshot { meta, snapshot: Box::new(Cursor::new(data)) };
        Ok(found.await?.map(whole))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let (applied, snapshot) = {
            let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
            (applied.clone(), self.state.snapshot())
        };
        let snapshot_id = applied.last.map_or_else(
            || "0-0".to_owned(),
            |last| format!("{}-{}", last.leader_id.term, last.index),
        );
        let meta = SnapshotMeta {
            last_log_id: applied.last,
            last_membership: applied.membership,
            snapshot_id,
        };
        let data = image::encode(snapshot).map_err(|error| StorageError::IO {
            source: StorageIOError::write_snapshot(None, AnyError::new(&error)),
        })?;
        let (store, kept, text) = (self.store.clone(), meta.clone(), data.clone());
        let subject = ErrorSubject::Snapshot(Some(meta.signature()));
        on_disk(subject, ErrorVerb::Write, move || store.set_snapshot(&kept, text)).await?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
    }
}
