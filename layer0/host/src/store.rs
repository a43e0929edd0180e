//! The host's durable state: one redb file, private, every write on disk before it counts as done. It
//! knows tables and JSON, not what the values mean.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

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

fn database<E: Into<redb::Error>>(error: E) -> StoreError {
    StoreError::Database(Box::new(error.into()))
}

/// The host's state. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    database: Arc<Database>,
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
        let store = Self { database: Arc::new(Database::create(&path).map_err(database)?) };
        let writing = store.database.begin_write().map_err(database)?;
        for table in [JOBS, OLD_JOBS, VOLUMES, RANGES, SINKS, SETTINGS] {
            drop(writing.open_table(table).map_err(database)?);
        }
        writing.commit().map_err(database)?;
        Ok(store)
    }

    /// Everything in a table.
    pub(crate) fn all<T: DeserializeOwned>(
        &self,
        table: Table,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let reading = self.database.begin_read().map_err(database)?;
        let table = reading.open_table(table).map_err(database)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(database)? {
            let (key, value) = row.map_err(database)?;
            rows.push((key.value().to_owned(), serde_json::from_slice(value.value())?));
        }
        Ok(rows)
    }

    /// One value.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        let reading = self.database.begin_read().map_err(database)?;
        let table = reading.open_table(table).map_err(database)?;
        let found = table.get(key).map_err(database)?;
        Ok(found.map(|value| serde_json::from_slice(value.value())).transpose()?)
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
        let database = self.database.clone();
        let written = tokio::task::spawn_blocking(move || commit(&database, &changes)).await;
        written.map_err(|_| StoreError::Interrupted)?
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
    use super::*;

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
