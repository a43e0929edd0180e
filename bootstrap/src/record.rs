//! `bootstrap.json`: what was decided and made so far. Written and synced before it is used, private
//! because it holds the cluster's secrets.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the file's form.
const VERSION: u32 = 1;

/// The record of a bootstrap, open for one run at a time.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    form: Form,
    /// Held as long as the record: the lock goes with the file.
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct Form {
    version: u32,
    steps: BTreeMap<String, StepRecord>,
}

/// What is known of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct StepRecord {
    done: bool,
    #[serde(default)]
    data: Value,
}

/// Why the record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Two runs at the same time.
    #[error("another bootstrap is running: {} is locked", .0.display())]
    Locked(PathBuf),
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not one of ours.
    #[error("{} is damaged: repair it, or remove it to start over", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The file is of another version.
    #[error("{} was written by another version: finish with that one", .0.display())]
    Version(PathBuf),
}

impl Record {
    /// Opens the record in a directory; an empty one if there is none yet.
    pub(crate) fn open(dir: &Path) -> Result<Self, RecordError> {
        let make = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        make.map_err(io_error("make", dir))?;
        let lock = lock(&dir.join("bootstrap.lock"))?;
        let path = dir.join("bootstrap.json");
        let form = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| RecordError::Damaged { path: path.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Form { version: VERSION, steps: BTreeMap::new() }
            }
            Err(source) => return Err(RecordError::Io { action: "read", path, source }),
        };
        if form.version != VERSION {
            return Err(RecordError::Version(path));
        }
        Ok(Self { path, form, _lock: lock })
    }

    /// Whether a step is done.
    pub(crate) fn is_done(&self, step: &str) -> bool {
        self.form.steps.get(step).is_some_and(|record| record.done)
    }

    /// What a step decided or made.
    pub(crate) fn data<T: DeserializeOwned>(&self, step: &str) -> Result<Option<T>, RecordError> {
        let Some(record) = self.form.steps.get(step).filter(|record| !record.data.is_null()) else {
            return Ok(None);
        };
        let damaged = |source| RecordError::Damaged { path: self.path.clone(), source };
        T::deserialize(&record.data).map(Some).map_err(damaged)
    }

    /// One text of what a step made.
    pub(crate) fn field(&self, step: &str, field: &str) -> Option<&str> {
        self.form.steps.get(step)?.data.get(field)?.as_str()
    }

    /// Writes down what a step is about to use. When this returns, a power cut does not take it back.
    pub(crate) fn keep<T: Serialize>(&mut self, step: &str, data: &T) -> Result<(), RecordError> {
        let damaged = |source| RecordError::Damaged { path: self.path.clone(), source };
        let data = serde_json::to_value(data).map_err(damaged)?;
        self.form.steps.entry(step.to_owned()).or_default().data = data;
        self.save()
    }

    /// Writes down that a step is done.
    pub(crate) fn finish(&mut self, step: &str) -> Result<(), RecordError> {
        self.form.steps.entry(step.to_owned()).or_default().done = true;
        self.save()
    }

    fn save(&self) -> Result<(), RecordError> {
        self.replace().map_err(io_error("write", &self.path))
    }

    fn replace(&self) -> io::Result<()> {
        let new = self.path.with_extension("json.new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&self.form)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        match self.path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn lock(path: &Path) -> Result<File, RecordError> {
    let mut options = OpenOptions::new();
    let open = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = open.map_err(io_error("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RecordError::Locked(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(io_error("lock", path)(source)),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_was_kept_is_there_for_the_next_run_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::open(dir.path()).unwrap();
        record.keep("key", &serde_json::json!({ "Data": "secret" })).unwrap();
        assert!(!record.is_done("key"));
        record.finish("key").unwrap();
        assert!(matches!(Record::open(dir.path()), Err(RecordError::Locked(_))));
        drop(record);
        let record = Record::open(dir.path()).unwrap();
        assert!(record.is_done("key"));
        assert_eq!(record.field("key", "Data"), Some("secret"));
        let mode = fs::metadata(dir.path().join("bootstrap.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_not_ours_is_not_overwritten() {
        for (text, want) in [("{", "damaged"), (r#"{"version":9,"steps":{}}"#, "another version")] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("bootstrap.json"), text).unwrap();
            let error = Record::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
