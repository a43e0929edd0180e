//! The folder of layers: `<key>.squashfs` files, written whole or not at all. Not what is mounted.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Layer, LayerError, LayerKey};

const FILES: &str = "files";
const PARTS: &str = "parts";
const MOUNTS: &str = "mnt";
const DIRECTORIES: &str = "dirs";

/// How a host keeps layers for jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The squashfs file is mounted.
    Squashfs,
    /// It is unpacked once: for kernels that cannot id-map a squashfs mount.
    Directory,
}

/// The layers of one host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LayerStore {
    dir: PathBuf,
    form: Form,
}

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
    /// The file is not the layer it should be.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl LayerStore {
    /// Opens or makes a store.
    pub fn open(dir: impl Into<PathBuf>, form: Form) -> Result<Self, StoreError> {
        let dir = dir.into();
        for name in [FILES, PARTS, MOUNTS, DIRECTORIES] {
            let path = dir.join(name);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(io_error("make", &path))?;
        }
        Ok(Self { dir, form })
    }

    /// How layers are kept here.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A layer's file, whether or not it is there.
    pub fn file(&self, key: &LayerKey) -> PathBuf {
        self.dir.join(FILES).join(format!("{key}.squashfs"))
    }

    /// Where a layer is made visible.
    pub fn mount_point(&self, key: &LayerKey) -> PathBuf {
        let folder = match self.form {
            Form::Squashfs => MOUNTS,
            Form::Directory => DIRECTORIES,
        };
        self.dir.join(folder).join(key.as_str())
    }

    /// Where a layer grows while it is fetched.
    pub fn part(&self, key: &LayerKey) -> PathBuf {
        self.dir.join(PARTS).join(key.as_str())
    }

    /// Whether the layer's file is there. It was verified when it came.
    pub fn has(&self, key: &LayerKey) -> bool {
        self.file(key).is_file()
    }

    /// Verifies a file of this file system and takes it in; it is gone from where it was. What does
    /// not verify is removed.
    pub fn take(&self, file: &Path, layer: &Layer) -> Result<LayerKey, StoreError> {
        let key = layer.key()?;
        let mut opened = File::open(file).map_err(io_error("open", file))?;
        if let Err(error) = layer.verify(&mut opened) {
            drop(fs::remove_file(file));
            return Err(error.into());
        }
        opened
            .set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(io_error("chmod", file))?;
        opened.sync_all().map_err(io_error("sync", file))?;
        let target = self.file(&key);
        fs::rename(file, &target).map_err(io_error("rename", file))?;
        sync_dir(&self.dir.join(FILES))?;
        Ok(key)
    }

    /// Notes that a layer was used, for the choice of what to forget.
    pub fn touch(&self, key: &LayerKey) {
        let touched =
            File::open(self.file(key)).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!(layer = %key, %error, "use of layer not noted");
        }
    }

    /// All layers with size and last use.
    pub fn list(&self) -> Result<Vec<crate::Kept>, StoreError> {
        let folder = self.dir.join(FILES);
        let mut layers = Vec::new();
        for entry in fs::read_dir(&folder).map_err(io_error("list", &folder))? {
            let entry = entry.map_err(io_error("list", &folder))?;
            let name = entry.file_name();
            let key = name.to_str().and_then(|name| name.strip_suffix(".squashfs"));
            let (Some(Ok(key)), Ok(about)) = (key.map(str::parse), entry.metadata()) else {
                continue;
            };
            let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            layers.push(crate::Kept { key, size: about.len(), used });
        }
        Ok(layers)
    }

    /// Forgets a layer that is not mounted.
    pub fn remove(&self, key: &LayerKey) -> Result<(), StoreError> {
        let unpacked = self.dir.join(DIRECTORIES).join(key.as_str());
        for (path, result) in [
            (self.file(key), fs::remove_file(self.file(key))),
            (unpacked.clone(), fs::remove_dir_all(&unpacked)),
        ] {
            match result {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// For `map_err`: what was tried with which path.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", dir))
}
