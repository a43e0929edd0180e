//! The bounded scratch disk of each job: a sparse ext4 image copied from a template of its size and
//! mounted by loop. No mkfs per job, and no job can fill the host's disk with it.
//!
//! Making one takes the kernel some milliseconds; a few of the usual size are kept ready ([`spares`]).

mod disk;
mod spares;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use kit_ids::JobId;
use kit_units::Bytes;
use tokio::process::Command;
use tokio::sync::Mutex;

use disk::Disk;
use spares::Spares;

/// Sizes are rounded up to this, so that there are few templates.
const STEP: u64 = 16 << 20;
/// The smallest file system worth making.
const LEAST: u64 = 16 << 20;

/// All scratch disks of the host.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    /// One template is made at a time.
    making: Mutex<()>,
    spares: Spares,
    /// A disk is made or removed, not both: a making that nobody waits for any more may still be under
    /// way when its job is cleaned up.
    under_way: std::sync::Mutex<BTreeMap<JobId, Arc<Making>>>,
}

/// The making of one disk.
#[derive(Debug, Default)]
struct Making {
    turn: std::sync::Mutex<()>,
    /// Nobody waits for it any more.
    abandoned: AtomicBool,
}

/// Why a job has no scratch disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScratchError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{tool} failed: {stderr}")]
    Tool { tool: &'static str, stderr: String },
    #[error("nobody waits for the disk any more")]
    Abandoned,
}

impl Scratch {
    /// Opens the folder. Disks of the `usual` size are kept ready.
    pub(crate) fn open(dir: PathBuf, usual: Bytes) -> io::Result<Self> {
        for name in ["templates", "jobs", "spares"] {
            fs::create_dir_all(dir.join(name))?;
        }
        let spares = Spares::new(dir.join("spares"), template_of(&dir, usual));
        Ok(Self { dir, making: Mutex::new(()), spares, under_way: Default::default() })
    }

    /// Makes and mounts a job's disk.
    pub(crate) async fn make(&self, job: &JobId, size: Bytes) -> Result<PathBuf, ScratchError> {
        let template = self.template(size).await?;
        let disk = self.disk(job);
        let mount_point = disk.mount_point().to_owned();
        let making = Arc::new(Making::default());
        self.under_way().insert(job.clone(), making.clone());
        let _abandon = Abandon(making.clone());
        let spares = self.spares.clone();
        let made = self.off_the_runtime(move || {
            let _alone = making.turn();
            if making.abandoned.load(Ordering::Acquire) {
                return Err(ScratchError::Abandoned);
            }
            match spares.take(&template) {
                Some(spare) if spare.become_disk(&disk).is_ok() => Ok(()),
                // Whatever is wrong with a spare one, a new one may still be made.
                Some(_) | None => disk.remove().and_then(|()| disk.make(&template)),
            }
        });
        made.await.map(|()| mount_point)
    }

    /// Unmounts and removes a job's disk; none is fine.
    pub(crate) async fn remove(&self, job: &JobId) -> Result<(), ScratchError> {
        let (disk, making) = (self.disk(job), self.under_way().remove(job).unwrap_or_default());
        let removed = self.off_the_runtime(move || {
            let _alone = making.turn();
            disk.remove()
        });
        removed.await
    }

    /// Removes disks of jobs that are not among `kept`, and all that nobody ever had.
    pub(crate) async fn sweep(&self, kept: &[JobId]) {
        let spares = self.spares.clone();
        let swept = self.off_the_runtime(move || spares.sweep());
        if let Err(error) = swept.await {
            tracing::warn!(%error, "spare scratch disks stay");
        }
        let Ok(entries) = fs::read_dir(self.dir.join("jobs")) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().trim_end_matches(".img").to_owned();
            let Ok(job) = name.parse::<JobId>() else { continue };
            if !kept.contains(&job)
                && let Err(error) = self.remove(&job).await
            {
                tracing::warn!(%job, %error, "scratch disk stays");
            }
        }
    }

    /// Returns a while after a job got its disk.
    pub(crate) async fn used(&self) {
        self.spares.used().await;
    }

    /// Makes the spare disks that are missing.
    pub(crate) async fn make_ready(&self) -> Result<(), ScratchError> {
        let spares = self.spares.clone();
        self.off_the_runtime(move || spares.fill()).await
    }

    fn disk(&self, job: &JobId) -> Disk {
        Disk::new(&self.dir.join("jobs"), job.as_str())
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<Making>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn off_the_runtime(
        &self,
        work: impl FnOnce() -> Result<(), ScratchError> + Send + 'static,
    ) -> Result<(), ScratchError> {
        let lost = |error| io_error("work on", &self.dir)(io::Error::other(error));
        tokio::task::spawn_blocking(work).await.map_err(lost)?
    }

    async fn template(&self, size: Bytes) -> Result<PathBuf, ScratchError> {
        let path = template_of(&self.dir, size);
        let _alone = self.making.lock().await;
        if path.exists() {
            return Ok(path);
        }
        let temporary = path.with_extension("new");
        let file = fs::File::create(&temporary).map_err(io_error("make", &temporary))?;
        file.set_len(steps(size) * STEP).map_err(io_error("size", &temporary))?;
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F", "-m", "0", "-L", "rootfs", "-O", "^has_journal"]);
        mkfs.args(["-E", "lazy_itable_init=1,nodiscard"]).arg(&temporary);
        run(mkfs, "mkfs.ext4").await?;
        fs::rename(&temporary, &path).map_err(io_error("rename", &temporary))?;
        Ok(path)
    }
}

impl Making {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropped when nobody waits for a making any more: it is over, or its job was stopped meanwhile.
struct Abandon(Arc<Making>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Release);
    }
}

fn steps(size: Bytes) -> u64 {
    size.0.clamp(LEAST, u64::MAX - STEP).div_ceil(STEP)
}

fn template_of(dir: &Path, size: Bytes) -> PathBuf {
    dir.join("templates").join(format!("{}.img", steps(size)))
}

async fn run(mut command: Command, tool: &'static str) -> Result<(), ScratchError> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(io_error("run", Path::new(tool)))?;
    if output.status.success() {
        return Ok(());
    }
    Err(ScratchError::Tool {
        tool,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ScratchError {
    let path = path.to_owned();
    move |source| ScratchError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(120);
    const SIZE: Bytes = Bytes(LEAST);

    fn job(name: &str) -> JobId {
        format!("host1-{name}").parse().unwrap()
    }

    /// Images below a folder that have a loop device, by the end of their path.
    fn looped(dir: &Path) -> Vec<String> {
        let devices = fs::read_dir("/sys/block").unwrap().flatten();
        let files =
            devices.filter_map(|dev| fs::read_to_string(dev.path().join("loop/backing_file")).ok());
        let below = |file: String| Some(file.trim().strip_prefix(dir.to_str()?)?.to_owned());
        let mut found: Vec<_> = files.filter_map(below).collect();
        found.sort();
        found
    }

    /// Waits until only these have one: another program of the machine may look at a device just then.
    fn until_looped(dir: &Path, wanted: &[&str]) {
        let started = Instant::now();
        while looped(dir) != wanted {
            assert!(started.elapsed() < PATIENCE, "{:?} stay, not {wanted:?}", looped(dir));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything in the folders of spares and of jobs.
    fn names(dir: &Path) -> Vec<String> {
        let list = |name: &str| fs::read_dir(dir.join(name)).unwrap().flatten();
        let names = list("spares").chain(list("jobs"));
        names.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    async fn with_spares(dir: &Path) -> Scratch {
        let scratch = Scratch::open(dir.to_owned(), SIZE).unwrap();
        scratch.make(&job("first"), SIZE).await.unwrap();
        tokio::time::timeout(PATIENCE, scratch.used()).await.unwrap();
        scratch.make_ready().await.unwrap();
        assert_eq!(scratch.spares.count(), 4);
        scratch
    }

    #[tokio::test]
    async fn a_spare_disk_becomes_a_jobs_own() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = with_spares(dir.path()).await;
        let disk = scratch.make(&job("second"), SIZE).await.unwrap();
        assert_eq!((scratch.spares.count(), looped(dir.path()).len()), (3, 5));
        fs::write(disk.join("file"), "kept").unwrap();
        let other = scratch.make(&job("third"), Bytes(3 * STEP)).await.unwrap();
        assert_eq!(scratch.spares.count(), 3, "no spare one has its size");
        assert!(!other.join("file").exists());
        for name in ["first", "second", "third"] {
            scratch.remove(&job(name)).await.unwrap();
        }
        assert!(names(dir.path()).iter().all(|name| !name.starts_with("host1")));
        scratch.sweep(&[]).await;
        assert_eq!(names(dir.path()), [""; 0]);
        until_looped(dir.path(), &[]);
    }

    /// Found by a full disk, where no folder could be made for the job's.
    #[tokio::test]
    async fn a_spare_disk_that_cannot_become_a_jobs_is_not_left() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = with_spares(dir.path()).await;
        fs::write(dir.path().join("jobs/host1-second"), "in the way").unwrap();
        scratch.make(&job("second"), SIZE).await.unwrap_err();
        assert_eq!(scratch.spares.count(), 3);
        let jobs = ["/jobs/host1-first.img"].into_iter();
        let spares = ["/spares/2.img", "/spares/3.img", "/spares/4.img"];
        until_looped(dir.path(), &jobs.chain(spares).collect::<Vec<_>>());
        scratch.remove(&job("first")).await.unwrap();
        scratch.sweep(&[]).await;
        until_looped(dir.path(), &[]);
    }

    #[tokio::test]
    async fn a_daemon_that_was_killed_leaves_no_spare_disk() {
        let dir = tempfile::tempdir().unwrap();
        let killed = with_spares(dir.path()).await;
        killed.make(&job("kept"), SIZE).await.unwrap();
        // As a kill leaves them: half made, and half way to a job.
        fs::write(dir.path().join("spares/77.img"), "begun").unwrap();
        let taken = killed.spares.take(&template_of(dir.path(), SIZE)).unwrap();
        let renamed = dir.path().join("jobs/host1-half.img");
        fs::rename(taken.mount_point().with_extension("img"), renamed).unwrap();
        drop(killed);
        let next = Scratch::open(dir.path().to_owned(), SIZE).unwrap();
        next.sweep(&[job("kept")]).await;
        until_looped(dir.path(), &["/jobs/host1-kept.img"]);
        assert_eq!(names(dir.path()).len(), 2, "{:?}", names(dir.path()));
        next.remove(&job("kept")).await.unwrap();
        assert_eq!(names(dir.path()), [""; 0]);
        until_looped(dir.path(), &[]);
    }

    #[test]
    fn a_disk_that_nobody_waits_for_any_more_is_not_left() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scratch = Scratch::open(dir.path().to_owned(), SIZE).unwrap();
            scratch.template(SIZE).await.unwrap();
            for at in 0..20 {
                let job = job(&format!("stopped{at}"));
                tokio::select! {
                    biased;
                    made = scratch.make(&job, SIZE) => drop(made),
                    () = std::future::ready(()) => {}
                }
                scratch.remove(&job).await.unwrap();
            }
        });
        // Waits for what is under way on its threads.
        drop(runtime);
        assert_eq!(names(dir.path()), [""; 0]);
        until_looped(dir.path(), &[]);
    }
}
