//! Layers made visible: each is mounted (or unpacked) once per host and counted. The last ones used stay
//! mounted for a while without a user: the next job often wants the same, and finds what it executes in
//! memory, unpacked. The counts live in memory; after a restart running jobs ask again and
//! [`LayerMounts::sweep`] unmounts what nobody asked for.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mount::UnmountFlags;

use crate::unpack::unpack;
use crate::{FileSystem, Form, LayerKey, LayerStore, mount_file};

/// Layers that stay mounted without a user: those of a few images.
const IDLE: usize = 16;

/// The mounted layers of one host. Its calls block: use them off the event loop.
#[derive(Clone, Debug)]
pub struct LayerMounts {
    store: LayerStore,
    users: Arc<Mutex<Users>>,
    most_idle: usize,
}

/// Who uses what. Every layer in it is visible.
#[derive(Debug, Default)]
struct Users {
    counts: BTreeMap<LayerKey, usize>,
    /// Mounted and used by nobody, the longest unused first.
    idle: VecDeque<LayerKey>,
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
    /// unsquashfs failed.
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
        Self { store, users: Arc::default(), most_idle: IDLE }
    }

    /// With another number of layers that stay mounted without a user.
    #[must_use]
    pub fn keeping(self, most_idle: usize) -> Self {
        Self { most_idle, ..self }
    }

    /// Makes a layer of the store visible, or uses what is.
    pub fn acquire(&self, key: &LayerKey) -> Result<Mounted, MountError> {
        let mut users = self.users();
        let path = self.store.mount_point(key);
        if !users.counts.contains_key(key) && !self.is_there(&path)? {
            self.make(key, &path)?;
        }
        users.idle.retain(|idle| idle != key);
        *users.counts.entry(key.clone()).or_default() += 1;
        Ok(Mounted { path, key: key.clone(), mounts: self.clone() })
    }

    /// Layers that are in use.
    pub fn in_use(&self) -> Vec<LayerKey> {
        self.users().counts.keys().cloned().collect()
    }

    /// Unmounts a layer if nobody uses it, before it is forgotten.
    pub fn let_go(&self, key: &LayerKey) {
        let mut users = self.users();
        if let Some(at) = users.idle.iter().position(|idle| idle == key) {
            users.idle.remove(at);
            unmount(&self.store.mount_point(key));
        }
    }

    /// Unmounts what an earlier daemon left mounted and nobody uses; how many that were.
    pub fn sweep(&self) -> Result<usize, MountError> {
        let users = self.users();
        let mut unmounted = 0;
        for path in mounted_below(&self.store.dir().join("mnt"))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_known =
                |key: LayerKey| users.counts.contains_key(&key) || users.idle.contains(&key);
            if !name.parse::<LayerKey>().is_ok_and(is_known) {
                unmount(&path);
                unmounted += 1;
            }
        }
        Ok(unmounted)
    }

    fn users(&self) -> MutexGuard<'_, Users> {
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
            Form::Squashfs => {
                fs::create_dir_all(path).map_err(io_error("make", path))?;
                mount_file(&file, path, FileSystem::Squashfs).map_err(io_error("mount", &file))
            }
            Form::Directory => unpack(&file, path, self.store.dir()),
        }
    }

    fn release(&self, key: &LayerKey) {
        let mut users = self.users();
        let left = users.counts.get_mut(key).map(|count| {
            *count -= 1;
            *count
        });
        if left != Some(0) {
            return;
        }
        users.counts.remove(key);
        if self.store.form() == Form::Squashfs {
            users.idle.push_back(key.clone());
        }
        while users.idle.len() > self.most_idle {
            if let Some(oldest) = users.idle.pop_front() {
                unmount(&self.store.mount_point(&oldest));
            }
        }
    }
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
