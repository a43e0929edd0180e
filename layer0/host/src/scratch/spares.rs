//! Scratch disks that are ready before anybody asks: a few of the size of jobs that state none. They are
//! made a while after one was taken, beside no start, and only once there was a job. What a crash
//! leaves of them is removed by the next daemon: nothing of them is worth keeping.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::disk::Disk;
use super::{ScratchError, io_error};

/// How many are ready: those of a small burst.
const READY: usize = 4;
/// How long after a disk was taken the next one is made; the job that took it starts meanwhile.
const PAUSE: Duration = Duration::from_millis(250);

/// The spare disks. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Spares {
    folder: PathBuf,
    template: PathBuf,
    stock: Arc<Mutex<Stock>>,
    asked: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Stock {
    ready: VecDeque<Disk>,
    /// Names are not used twice.
    made: u64,
}

impl Spares {
    /// Copies of this template, in this folder.
    pub(super) fn new(folder: PathBuf, template: PathBuf) -> Self {
        Self { folder, template, stock: Arc::default(), asked: Arc::default() }
    }

    /// A ready copy of a template that is there, if there is one. The next one is made from now on.
    pub(super) fn take(&self, template: &Path) -> Option<Disk> {
        if template != self.template {
            return None;
        }
        self.asked.notify_one();
        self.stock().ready.pop_front()
    }

    /// Returns a while after one was asked for.
    pub(super) async fn used(&self) {
        self.asked.notified().await;
        tokio::time::sleep(PAUSE).await;
    }

    /// Makes what is missing. Blocks.
    pub(super) fn fill(&self) -> Result<(), ScratchError> {
        while let Some(disk) = self.missing() {
            // Not under the lock: who starts a job does not wait for this.
            if let Err(error) = disk.make(&self.template) {
                drop(disk.remove());
                return Err(error);
            }
            self.stock().ready.push_back(disk);
        }
        Ok(())
    }

    /// The name of one that should be ready.
    fn missing(&self) -> Option<Disk> {
        let mut stock = self.stock();
        if stock.ready.len() >= READY {
            return None;
        }
        stock.made += 1;
        Some(Disk::new(&self.folder, &stock.made.to_string()))
    }

    /// Removes every spare disk, also those of an earlier daemon.
    pub(super) fn sweep(&self) -> Result<(), ScratchError> {
        self.stock().ready.clear();
        let entries = fs::read_dir(&self.folder).map_err(io_error("list", &self.folder))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            Disk::new(&self.folder, name.to_string_lossy().trim_end_matches(".img")).remove()?;
        }
        Ok(())
    }

    /// How many are ready.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.stock().ready.len()
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
