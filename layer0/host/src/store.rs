//! The host's durable state: one redb file, private, every write on disk before it counts as done. It
//! knows tables and JSON, not what the values mean.
//!
//! After a failed write, on a full disk say, redb refuses everything until its file is opened anew; the
//! store does that with the next thing it is asked.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A table of JSON values by name.
pub(crate) type Table = TableDefinition<'static, &'static str, &'static [u8]>;

/// Jobs that are listed.
pub(crate) const JOBS: Table = TableDefinition::new("jobs");
/// Jobs that left the list.
pub(crate) const OLD_JOBS: Table = TableDefinition::new("old-jobs");
/// Volumes.
pub(crate) const VOLUMES: Table = TableDefinition::new("volumes");
/// Ranges of user ids by app or job.
pub(crate) const RANGES: Table = TableDefinition::new("uid-ranges");
/// Sinks put over HTTP.
pub(crate) const SINKS: Table = TableDefinition::new("sinks");
/// What the host was told: network, discoverd, tags.
pub(crate) const SETTINGS: Table = TableDefinition::new("settings");

/// Why state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its folder.
    #[error("cannot open the host's state")]
    Open(#[from] io::Error),
    /// The database.
    #[error("the host's state cannot be read or written")]
    Database(#[source] Box<redb::Error>),
    /// A value that is no longer understood.
    #[error("a value of the host's state is damaged")]
    Value(#[from] serde_json::Error),
    /// The thread that wrote ended.
    #[error("writing the host's state was interrupted")]
    Interrupted,
}

impl StoreError {
    /// Whether the database file could not be read or written.
    pub(crate) fn is_of_the_disk(&self) -> bool {
        match self {
            Self::Database(error) => {
                matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo)
            }
            Self::Open(_) | Self::Value(_) | Self::Interrupted => false,
        }
    }
}

fn database<E: Into<redb::Error>>(error: E) -> StoreError {
    StoreError::Database(Box::new(error.into()))
}

type Opener = dyn Fn() -> Result<Database, redb::DatabaseError> + Send + Sync;

/// The host's state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    opener: Box<Opener>,
    /// None after a failure, until it could be opened again.
    open: RwLock<Option<Database>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or makes `host.redb` in a folder that becomes private.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        let path = dir.join("host.redb");
        let options = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        options.set_permissions(fs::Permissions::from_mode(0o600))?;
        drop(options);
        Self::opened_by(Box::new(move || Database::create(&path)))
    }

    fn opened_by(opener: Box<Opener>) -> Result<Self, StoreError> {
        let inner = Inner { opener, open: RwLock::default() };
        let store = Self { inner: Arc::new(inner) };
        store.with(|open| {
            let writing = open.begin_write().map_err(database)?;
            for table in [JOBS, OLD_JOBS, VOLUMES, RANGES, SINKS, SETTINGS] {
                drop(writing.open_table(table).map_err(database)?);
            }
            writing.commit().map_err(database)
        })?;
        Ok(store)
    }

    /// Everything in a table.
    pub(crate) fn all<T: DeserializeOwned>(
        &self,
        table: Table,
    ) -> Result<Vec<(String, T)>, StoreError> {
        self.with(|open| {
            let reading = open.begin_read().map_err(database)?;
            let table = reading.open_table(table).map_err(database)?;
            let mut rows = Vec::new();
            for row in table.iter().map_err(database)? {
                let (key, value) = row.map_err(database)?;
                rows.push((key.value().to_owned(), serde_json::from_slice(value.value())?));
            }
            Ok(rows)
        })
    }

    /// One value.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        self.with(|open| {
            let reading = open.begin_read().map_err(database)?;
            let table = reading.open_table(table).map_err(database)?;
            let found = table.get(key).map_err(database)?;
            Ok(found.map(|value| serde_json::from_slice(value.value())).transpose()?)
        })
    }

    /// Writes one value; it is on disk when this returns.
    pub(crate) async fn put<T: Serialize>(
        &self,
        table: Table,
        key: &str,
        value: &T,
    ) -> Result<(), StoreError> {
        self.write(vec![Change {
            table,
            key: key.to_owned(),
            value: Some(serde_json::to_vec(value)?),
        }])
        .await
    }

    /// Removes one value.
    pub(crate) async fn delete(&self, table: Table, key: &str) -> Result<(), StoreError> {
        self.write(vec![Change { table, key: key.to_owned(), value: None }]).await
    }

    /// Moves a value from one table to another, at once.
    pub(crate) async fn move_to<T: Serialize>(
        &self,
        (from, to): (Table, Table),
        key: &str,
        value: &T,
    ) -> Result<(), StoreError> {
        let value = Some(serde_json::to_vec(value)?);
        self.write(vec![
            Change { table: from, key: key.to_owned(), value: None },
            Change { table: to, key: key.to_owned(), value },
        ])
        .await
    }

    async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let store = self.clone();
        let write = move || store.with(|open| commit(open, &changes));
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|_| StoreError::Interrupted)?
    }

    /// Does something with the open database; one that failed is closed.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.ensure_open()?;
        let outcome = {
            let open = self.inner.open.read().unwrap_or_else(PoisonError::into_inner);
            work(open.as_ref().ok_or(StoreError::Interrupted)?)
        };
        if outcome.as_ref().is_err_and(StoreError::is_of_the_disk) {
            *self.inner.open.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        outcome
    }

    fn ensure_open(&self) -> Result<(), StoreError> {
        if self.inner.open.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let mut open = self.inner.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            *open = Some((self.inner.opener)().map_err(database)?);
        }
        Ok(())
    }
}

struct Change {
    table: Table,
    key: String,
    value: Option<Vec<u8>>,
}

/// One transaction; redb syncs the file before a commit returns.
fn commit(store: &Database, changes: &[Change]) -> Result<(), StoreError> {
    let writing = store.begin_write().map_err(database)?;
    for change in changes {
        let mut table = writing.open_table(change.table).map_err(database)?;
        match &change.value {
            Some(value) => {
                drop(table.insert(change.key.as_str(), value.as_slice()).map_err(database)?)
            }
            None => drop(table.remove(change.key.as_str()).map_err(database)?),
        }
    }
    writing.commit().map_err(database)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A disk in memory that can be full.
    #[derive(Clone, Debug, Default)]
    struct SmallDisk {
        bytes: Arc<Mutex<Vec<u8>>>,
        is_full: Arc<AtomicBool>,
    }

    impl SmallDisk {
        fn write<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> io::Result<T> {
            if self.is_full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(work(&mut self.bytes.lock().unwrap()))
        }
    }

    impl redb::StorageBackend for SmallDisk {
        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.lock().unwrap().len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let at = usize::try_from(offset).unwrap();
            out.copy_from_slice(&self.bytes.lock().unwrap()[at..at + out.len()]);
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.write(|bytes| bytes.resize(usize::try_from(len).unwrap(), 0))
        }

        fn sync_data(&self) -> io::Result<()> {
            self.write(|_| ())
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            let at = usize::try_from(offset).unwrap();
            self.write(|bytes| bytes[at..at + data.len()].copy_from_slice(data))
        }
    }

    #[tokio::test]
    async fn when_a_full_disk_has_room_again_the_store_goes_on() {
        let disk = SmallDisk::default();
        let opener = disk.clone();
        let open = move || Database::builder().create_with_backend(opener.clone());
        let store = Store::opened_by(Box::new(open)).unwrap();
        store.put(JOBS, "before", &1_u32).await.unwrap();
        disk.is_full.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            store.put(JOBS, "meanwhile", &2_u32).await.unwrap_err();
        }
        disk.is_full.store(false, Ordering::SeqCst);
        store.put(JOBS, "after", &3_u32).await.unwrap();
        let kept = [("after".to_owned(), 3), ("before".to_owned(), 1)];
        assert_eq!(store.all::<u32>(JOBS).unwrap(), kept);
    }

    #[tokio::test]
    async fn what_was_put_is_there_after_a_reopen_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let store = Store::open(&path).unwrap();
        store.put(JOBS, "a", &1_u32).await.unwrap();
        store.put(JOBS, "b", &2_u32).await.unwrap();
        store.move_to((JOBS, OLD_JOBS), "b", &2_u32).await.unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.all::<u32>(JOBS).unwrap(), [("a".to_owned(), 1)]);
        assert_eq!(store.get::<u32>(OLD_JOBS, "b").unwrap(), Some(2));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("host.redb"))), (0o700, 0o600));
    }
}
