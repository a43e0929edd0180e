//! The bounded scratch disk of each job: a sparse ext4 image copied from a template of its size and
//! mounted by loop. No mkfs per job, and no job can fill the host's disk with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use kit_ids::JobId;
use kit_units::Bytes;
use rustix::mount::UnmountFlags;
use tokio::process::Command;
use tokio::sync::Mutex;

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
}

/// Why a job has no scratch disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScratchError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{tool} failed: {stderr}")]
    Tool { tool: &'static str, stderr: String },
}

impl Scratch {
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(dir.join("templates"))?;
        fs::create_dir_all(dir.join("jobs"))?;
        Ok(Self { dir, making: Mutex::new(()) })
    }

    /// Makes and mounts a job's disk.
    pub(crate) async fn make(&self, job: &JobId, size: Bytes) -> Result<PathBuf, ScratchError> {
        let template = self.template(size).await?;
        let (image, mount_point) = (self.image(job), self.mount_point(job));
        let mut copy = Command::new("cp");
        copy.args(["--sparse=always", "--reflink=auto"]).arg(&template).arg(&image);
        run(copy, "cp").await?;
        fs::create_dir_all(&mount_point).map_err(io_error("make", &mount_point))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop,nosuid,nodev,noatime"]).arg(&image).arg(&mount_point);
        run(mount, "mount").await?;
        Ok(mount_point)
    }

    /// Unmounts and removes a job's disk; none is fine.
    pub(crate) async fn remove(&self, job: &JobId) -> Result<(), ScratchError> {
        let (image, mount_point) = (self.image(job), self.mount_point(job));
        let gone = tokio::task::spawn_blocking(move || {
            // Not mounted is fine; a busy one is detached and its loop device goes with its last user.
            let _ = rustix::mount::unmount(&mount_point, UnmountFlags::DETACH);
            remove_if_there(fs::remove_dir(&mount_point))
                .map_err(io_error("remove", &mount_point))?;
            remove_if_there(fs::remove_file(&image)).map_err(io_error("remove", &image))
        });
        let lost = |error| io_error("clean", &self.dir)(io::Error::other(error));
        gone.await.map_err(lost)?
    }

    /// Removes disks of jobs that are not among `kept`.
    pub(crate) async fn sweep(&self, kept: &[JobId]) {
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

    fn image(&self, job: &JobId) -> PathBuf {
        self.dir.join("jobs").join(format!("{job}.img"))
    }

    fn mount_point(&self, job: &JobId) -> PathBuf {
        self.dir.join("jobs").join(job.as_str())
    }

    async fn template(&self, size: Bytes) -> Result<PathBuf, ScratchError> {
        let size = size.0.clamp(LEAST, u64::MAX - STEP).div_ceil(STEP) * STEP;
        let path = self.dir.join("templates").join(format!("{}.img", size / STEP));
        let _alone = self.making.lock().await;
        if path.exists() {
            return Ok(path);
        }
        let temporary = path.with_extension("new");
        let file = fs::File::create(&temporary).map_err(io_error("make", &temporary))?;
        file.set_len(size).map_err(io_error("size", &temporary))?;
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F", "-m", "0", "-L", "rootfs", "-O", "^has_journal"]);
        mkfs.args(["-E", "lazy_itable_init=1,nodiscard"]).arg(&temporary);
        run(mkfs, "mkfs.ext4").await?;
        fs::rename(&temporary, &path).map_err(io_error("rename", &temporary))?;
        Ok(path)
    }
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

fn remove_if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ScratchError {
    let path = path.to_owned();
    move |source| ScratchError::Io { action, path, source }
}
