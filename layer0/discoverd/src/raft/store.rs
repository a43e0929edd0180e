//! The disk: a [`journal`](super::journal) with the log, and a redb file with what is seldom written, the
//! vote and the last snapshot. It knows no Raft rule beyond what must be on disk before an answer;
//! [`super::log`] and [`super::machine`] speak the library's language.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::journal::{DiskFile, Files, Journal, Sizes, completion, wait};
use super::types::{Entry, LogId, NodeId, SnapshotMeta, Vote};

/// Where the log was before there was a journal.
const OLD_LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// Stands in its place: an older version cannot open it, and so does not vote without its log.
const NO_LOG: TableDefinition<&str, &str> = TableDefinition::new("log");
/// Small facts by name: see the keys below.
const FACTS: TableDefinition<&str, &[u8]> = TableDefinition::new("facts");

const VOTE: &str = "vote";
const NODE: &str = "node";
const SNAPSHOT_META: &str = "snapshot-meta";
const SNAPSHOT_DATA: &str = "snapshot-data";
/// Set once the log is in the journal.
const JOURNAL: &str = "journal";
/// Facts of the time before.
const OLD_COMMITTED: &str = "committed";
const OLD_PURGED: &str = "purged";

/// The files of a store: facts, and the log.
pub(super) const FILE: &str = "raft.redb";
pub(super) const LOGS: [&str; 2] = ["log.0", "log.1"];

/// How much of the file is kept in memory: the facts fit many times over.
const CACHE: usize = 16 << 20;

/// Why the disk could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot read or write its file.
    #[error("discoverd's store failed")]
    Database(#[source] Box<redb::Error>),
    /// The log cannot be read or written.
    #[error("discoverd's log failed")]
    Log(#[from] io::Error),
    /// The log lacks something that was answered for.
    #[error("discoverd's log is damaged: {0}")]
    Damaged(&'static str),
    /// What is on disk is not what this version writes.
    #[error("discoverd's store holds an unreadable {what}")]
    Unreadable {
        /// Which record.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The data directory cannot be made, or files in it cannot be moved.
    #[error("cannot make or change the data directory {path}")]
    Directory {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(CommitError, DatabaseError, StorageError, TableError, TransactionError);

/// The store of one member. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    disk: Arc<Disk>,
}

/// The journal is closed before the database, whose lock keeps other processes from both.
#[derive(Debug)]
struct Disk {
    journal: Journal,
    db: Database,
}

/// Tells when a store is closed.
#[derive(Clone, Debug)]
pub(crate) struct Observer(Weak<Disk>);

impl Observer {
    /// Whether nobody holds the store any more, so that its files can be opened again.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Store {
    /// Opens or makes the store in a directory, which only its owner may enter: metadata of services
    /// may hold secrets.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| StoreError::Directory {
            path: directory.display().to_string(),
            source,
        })?;
        let db = Database::builder().set_cache_size(CACHE).create(directory.join(FILE))?;
        let file = |name| DiskFile::open(&directory.join(name)).map(|file| Box::new(file) as _);
        let files: Files = [file(LOGS[0])?, file(LOGS[1])?];
        File::open(directory)?.sync_all()?;
        Self::prepare(db, files)
    }

    /// Opens or makes a store on any storage: for facts, and for the log. Simulations bring one that
    /// loses power.
    pub(crate) fn with_backends<B: StorageBackend>(
        [facts, one, other]: [B; 3],
    ) -> Result<Self, StoreError> {
        let db = Database::builder().set_cache_size(CACHE).create_with_backend(facts)?;
        Self::prepare(db, [Box::new(one), Box::new(other)])
    }

    /// Tells when nobody holds the store any more.
    pub(crate) fn observe(&self) -> Observer {
        Observer(Arc::downgrade(&self.disk))
    }

    fn prepare(db: Database, files: Files) -> Result<Self, StoreError> {
        let write = db.begin_write()?;
        write.open_table(FACTS)?;
        write.commit()?;
        let journal = if fact::<u32>(&db, JOURNAL)?.is_some() {
            Journal::open(files, Sizes::default())?
        } else {
            begin_journal(&db, files)?
        };
        Ok(Self { disk: Arc::new(Disk { journal, db }) })
    }

    /// The member's id; `first` is kept when there is none yet.
    pub(crate) fn node_id(&self, first: NodeId) -> Result<NodeId, StoreError> {
        if let Some(id) = self.fact(NODE)? {
            return Ok(id);
        }
        self.set_facts(&[(NODE, encode(NODE, &first)?)])?;
        Ok(first)
    }

    pub(crate) fn vote(&self) -> Result<Option<Vote>, StoreError> {
        self.fact(VOTE)
    }

    pub(crate) fn set_vote(&self, vote: &Vote) -> Result<(), StoreError> {
        self.set_facts(&[(VOTE, encode(VOTE, vote)?)])
    }

    /// The log.
    pub(super) fn journal(&self) -> &Journal {
        &self.disk.journal
    }

    /// Waits until the log is on disk up to `upto`.
    pub(super) async fn on_disk(&self, upto: Option<LogId>) -> Result<(), StoreError> {
        let mut durable = self.journal().durable();
        // The sender lives as long as the journal.
        if let Ok(durable) =
            durable.wait_for(|durable| durable.failed.is_some() || durable.last >= upto).await
            && durable.last < upto
            && let Some(reason) = &durable.failed
        {
            return Err(StoreError::Log(io::Error::other(reason.to_string())));
        }
        Ok(())
    }

    pub(crate) fn snapshot(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, StoreError> {
        let Some(meta) = self.fact(SNAPSHOT_META)? else { return Ok(None) };
        let read = self.disk.db.begin_read()?;
        let data = read.open_table(FACTS)?.get(SNAPSHOT_DATA)?;
        Ok(data.map(|data| (meta, data.value().to_vec())))
    }

    pub(crate) fn set_snapshot(
        &self,
        meta: &SnapshotMeta,
        data: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.set_facts(&[(SNAPSHOT_META, encode(SNAPSHOT_META, meta)?), (SNAPSHOT_DATA, data)])
    }

    fn fact<T: DeserializeOwned>(&self, key: &'static str) -> Result<Option<T>, StoreError> {
        fact(&self.disk.db, key)
    }

    fn set_facts(&self, facts: &[(&'static str, Vec<u8>)]) -> Result<(), StoreError> {
        let write = self.disk.db.begin_write()?;
        for (key, text) in facts {
            write.open_table(FACTS)?.insert(key, text.as_slice())?;
        }
        Ok(write.commit()?)
    }
}

/// What a store begins with that has no log yet.
#[derive(Debug)]
pub(super) struct Beginning<'a> {
    pub(super) id: NodeId,
    pub(super) vote: Vote,
    pub(super) snapshot: (&'a SnapshotMeta, Vec<u8>),
    /// Where the log will go on behind.
    pub(super) purged: LogId,
}

/// Makes the file of facts. Once it is in its place, the first opening of the store makes its log, in place
/// of whatever is in the files of the log by then: so one rename makes the store another one.
pub(super) fn begin(directory: &Path, beginning: Beginning<'_>) -> Result<(), StoreError> {
    let Beginning { id, vote, snapshot: (meta, data), purged } = beginning;
    let db = Database::builder().set_cache_size(CACHE).create(directory.join(FILE))?;
    let write = db.begin_write()?;
    {
        let mut facts = write.open_table(FACTS)?;
        facts.insert(NODE, encode(NODE, &id)?.as_slice())?;
        facts.insert(VOTE, encode(VOTE, &vote)?.as_slice())?;
        facts.insert(SNAPSHOT_META, encode(SNAPSHOT_META, meta)?.as_slice())?;
        facts.insert(SNAPSHOT_DATA, data.as_slice())?;
        facts.insert(OLD_PURGED, encode(OLD_PURGED, &purged)?.as_slice())?;
    }
    Ok(write.commit()?)
}

/// Makes the journal, with the log of an older version if there is one. That one is there until the
/// journal is whole and on disk, so a start that is cut short begins again.
fn begin_journal(db: &Database, files: Files) -> Result<Journal, StoreError> {
    let write = db.begin_write()?;
    let entries = {
        let log = write.open_table(OLD_LOG)?;
        let entries = log.iter()?.map(|entry| decode("entry", entry?.1.value()));
        entries.collect::<Result<Vec<Entry>, StoreError>>()?
    };
    let journal = Journal::create(files, Sizes::default(), fact(db, OLD_PURGED)?)?;
    journal.commit(fact::<Option<LogId>>(db, OLD_COMMITTED)?.flatten());
    if !entries.is_empty() {
        tracing::info!(entries = entries.len(), "the log moves into a journal");
        let (done, written) = completion();
        journal.append(entries, done)?;
        wait(&written)?;
    }
    write.delete_table(OLD_LOG)?;
    write.open_table(NO_LOG)?;
    {
        let mut facts = write.open_table(FACTS)?;
        facts.remove(OLD_PURGED)?;
        facts.remove(OLD_COMMITTED)?;
        facts.insert(JOURNAL, b"1".as_slice())?;
    }
    write.commit()?;
    Ok(journal)
}

fn fact<T: DeserializeOwned>(db: &Database, key: &'static str) -> Result<Option<T>, StoreError> {
    let read = db.begin_read()?;
    let found = read.open_table(FACTS)?.get(key)?;
    found.map(|text| decode(key, text.value())).transpose()
}

fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|source| StoreError::Unreadable { what, source })
}

fn decode<T: DeserializeOwned>(what: &'static str, text: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(text).map_err(|source| StoreError::Unreadable { what, source })
}

#[cfg(test)]
mod tests;
