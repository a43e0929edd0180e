//! Layers made visible: each is mounted (or unpacked) once per host, counted, and unmounted when the
//! last job that used it is gone. The counts live in memory; after a restart running jobs ask again and
//! [`LayerMounts::sweep`] unmounts what nobody asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mount::UnmountFlags;

use crate::unpack::unpack;
use crate::{Form, LayerKey, LayerStore};

/// The mounted layers of one host. Its calls block: use them off the event loop.
#[derive(Clone, Debug)]
pub struct LayerMounts {
    store: LayerStore,
    users: Arc<Mutex<BTreeMap<LayerKey, usize>>>,
}

/// A layer in use: mounted as long as this lives, whoever else uses it.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    key: LayerKey,
    mounts: LayerMounts,
}

/// Why a layer could not be made visible.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
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
    /// mount(8) or unsquashfs failed.
    #[error("{tool} failed for {}: {stderr}", path.display())]
    Tool {
        /// Which program.
        tool: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        stderr: String,
    },
}

impl Mounted {
    /// The layer's root directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.mounts.release(&self.key);
    }
}

impl LayerMounts {
    /// The mounts of a store.
    pub fn new(store: LayerStore) -> Self {
        Self { store, users: Arc::default() }
    }

    /// Makes a layer of the store visible, or uses what is.
    pub fn acquire(&self, key: &LayerKey) -> Result<Mounted, MountError> {
        let mut users = self.users();
        let path = self.store.mount_point(key);
        if !users.contains_key(key) && !self.is_there(&path)? {
            self.make(key, &path)?;
        }
        *users.entry(key.clone()).or_default() += 1;
        Ok(Mounted { path, key: key.clone(), mounts: self.clone() })
    }

    /// Layers that are in use.
    pub fn in_use(&self) -> Vec<LayerKey> {
        self.users().keys().cloned().collect()
    }

    /// Unmounts what is mounted and not in use; how many that were.
    pub fn sweep(&self) -> Result<usize, MountError> {
        let users = self.users();
        let mut unmounted = 0;
        for path in mounted_below(&self.store.dir().join("mnt"))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let used = name.parse::<LayerKey>().is_ok_and(|key| users.contains_key(&key));
            if !used {
                unmount(&path);
                unmounted += 1;
            }
        }
        Ok(unmounted)
    }

    fn users(&self) -> MutexGuard<'_, BTreeMap<LayerKey, usize>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_there(&self, path: &Path) -> Result<bool, MountError> {
        match self.store.form() {
            Form::Squashfs => Ok(mounted_below(path)?.iter().any(|mounted| mounted == path)),
            Form::Directory => Ok(path.is_dir()),
        }
    }

    fn make(&self, key: &LayerKey, path: &Path) -> Result<(), MountError> {
        let file = self.store.file(key);
        match self.store.form() {
            Form::Squashfs => mount(&file, path),
            Form::Directory => unpack(&file, path, self.store.dir()),
        }
    }

    fn release(&self, key: &LayerKey) {
        let mut users = self.users();
        let left = users.get_mut(key).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            users.remove(key);
            if self.store.form() == Form::Squashfs {
                unmount(&self.store.mount_point(key));
            }
        }
    }
}

/// Mounts a squashfs file over a loop device that goes with the mount.
fn mount(file: &Path, path: &Path) -> Result<(), MountError> {
    fs::create_dir_all(path).map_err(io_error("make", path))?;
    let mut command = Command::new("mount");
    command.args(["-t", "squashfs", "-o", "loop,ro,nosuid,nodev"]).arg(file).arg(path);
    run(command, "mount", file)
}

/// A busy mount is detached: its loop device goes when the last user of its files does.
fn unmount(path: &Path) {
    if let Err(error) = rustix::mount::unmount(path, UnmountFlags::DETACH) {
        tracing::warn!(path = %path.display(), %error, "layer stays mounted");
        return;
    }
    if let Err(error) = fs::remove_dir(path) {
        tracing::debug!(path = %path.display(), %error, "mount point stays");
    }
}

/// Mount points at or below a path, as this process sees them.
fn mounted_below(dir: &Path) -> Result<Vec<PathBuf>, MountError> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(io_error("read", table))?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    Ok(points.map(PathBuf::from).filter(|point| point.starts_with(dir)).collect())
}

/// The kernel writes blanks, tabs, newlines and backslashes as octal.
fn unescaped(text: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Runs a program that prints nothing of use but its errors.
pub(crate) fn run(mut command: Command, tool: &'static str, path: &Path) -> Result<(), MountError> {
    command.stdin(Stdio::null());
    let output = command.output().map_err(io_error("run the tool for", path))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(MountError::Tool { tool, path: path.to_owned(), stderr })
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MountError {
    let path = path.to_owned();
    move |source| MountError::Io { action, path, source }
}
