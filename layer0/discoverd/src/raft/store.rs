//! The disk: one redb file with the log, the vote and the last snapshot. It knows no Raft rule beyond
//! what must be on disk before an answer; [`super::log`] and [`super::machine`] speak the library's
//! language.

use std::ops::RangeBounds;
use std::path::Path;
use std::sync::{Arc, Weak};

use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, StorageBackend,
    TableDefinition,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::types::{Entry, LogId, NodeId, SnapshotMeta, Vote};

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// Small facts by name: see the keys below.
const FACTS: TableDefinition<&str, &[u8]> = TableDefinition::new("facts");

const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const NODE: &str = "node";
const SNAPSHOT_META: &str = "snapshot-meta";
const SNAPSHOT_DATA: &str = "snapshot-data";

/// How much of the file is kept in memory: the log's tail and the facts fit many times over.
const CACHE: usize = 16 << 20;

/// Why the disk could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot read or write its file.
    #[error("discoverd's store failed")]
    Database(#[source] Box<redb::Error>),
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
        source: std::io::Error,
    },
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// The store of one member. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    db: Arc<Database>,
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
        let db = Database::builder().set_cache_size(CACHE).create(directory.join("raft.redb"))?;
        Self::prepare(db)
    }

    /// Opens or makes a store on any storage; simulations bring one that loses power.
    pub(crate) fn with_backend(backend: impl StorageBackend) -> Result<Self, StoreError> {
        Self::prepare(Database::builder().set_cache_size(CACHE).create_with_backend(backend)?)
    }

    /// Tells when nobody holds the store any more, so that its file can be opened again.
    pub(crate) fn observe(&self) -> Weak<Database> {
        Arc::downgrade(&self.db)
    }

    fn prepare(db: Database) -> Result<Self, StoreError> {
        let write = db.begin_write()?;
        write.open_table(LOG)?;
        write.open_table(FACTS)?;
        write.commit()?;
        Ok(Self { db: Arc::new(db) })
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

    pub(crate) fn committed(&self) -> Result<Option<LogId>, StoreError> {
        self.fact::<Option<LogId>>(COMMITTED).map(Option::flatten)
    }

    /// Not synced: it reaches the disk with the next append. One that is behind only means that entries
    /// are applied a little later after a restart.
    pub(crate) fn set_committed(&self, committed: Option<LogId>) -> Result<(), StoreError> {
        let text = encode(COMMITTED, &committed)?;
        let mut write = self.db.begin_write()?;
        write.set_durability(Durability::None)?;
        write.open_table(FACTS)?.insert(COMMITTED, text.as_slice())?;
        Ok(write.commit()?)
    }

    pub(crate) fn purged(&self) -> Result<Option<LogId>, StoreError> {
        self.fact(PURGED)
    }

    /// Adds entries with one sync.
    pub(crate) fn append(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let write = self.db.begin_write()?;
        {
            let mut log = write.open_table(LOG)?;
            for entry in entries {
                log.insert(entry.log_id.index, encode("entry", entry)?.as_slice())?;
            }
        }
        Ok(write.commit()?)
    }

    pub(crate) fn entries(&self, range: impl RangeBounds<u64>) -> Result<Vec<Entry>, StoreError> {
        let read = self.db.begin_read()?;
        let log = read.open_table(LOG)?;
        let found = log.range(range)?;
        found.map(|entry| decode("entry", entry?.1.value())).collect()
    }

    pub(crate) fn last_entry(&self) -> Result<Option<Entry>, StoreError> {
        let read = self.db.begin_read()?;
        let log = read.open_table(LOG)?;
        let last = log.last()?;
        last.map(|(_, entry)| decode("entry", entry.value())).transpose()
    }

    /// Drops the entries from `index` on: another leader's log won.
    pub(crate) fn truncate(&self, index: u64) -> Result<(), StoreError> {
        let write = self.db.begin_write()?;
        write.open_table(LOG)?.retain_in(index.., |_, _| false)?;
        Ok(write.commit()?)
    }

    /// Drops the entries up to `upto`: a snapshot holds them.
    pub(crate) fn purge(&self, upto: LogId) -> Result<(), StoreError> {
        let write = self.db.begin_write()?;
        write.open_table(LOG)?.retain_in(..=upto.index, |_, _| false)?;
        write.open_table(FACTS)?.insert(PURGED, encode(PURGED, &upto)?.as_slice())?;
        Ok(write.commit()?)
    }

    pub(crate) fn snapshot(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, StoreError> {
        let Some(meta) = self.fact(SNAPSHOT_META)? else { return Ok(None) };
        let read = self.db.begin_read()?;
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
        let read = self.db.begin_read()?;
        let found = read.open_table(FACTS)?.get(key)?;
        found.map(|text| decode(key, text.value())).transpose()
    }

    fn set_facts(&self, facts: &[(&'static str, Vec<u8>)]) -> Result<(), StoreError> {
        let write = self.db.begin_write()?;
        for (key, text) in facts {
            write.open_table(FACTS)?.insert(key, text.as_slice())?;
        }
        Ok(write.commit()?)
    }
}

fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|source| StoreError::Unreadable { what, source })
}

fn decode<T: DeserializeOwned>(what: &'static str, text: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(text).map_err(|source| StoreError::Unreadable { what, source })
}
