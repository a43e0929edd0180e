//! The control groups of one job: make, fill, watch, kill, remove.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kit_units::Bytes;
use rustix::event::{EventfdFlags, PollFlags, eventfd};

use super::device_filter::{self, DeviceRule};
use super::files::{self, keyed_number, number, write};
use super::hierarchy::Cgroups;
use super::{sweep, v1, v2};
use crate::protocol::CgroupSpec;

/// Pause between attempts to remove a group whose processes are just ending.
const RETRY: Duration = Duration::from_millis(2);

/// What a job uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// In use now.
    pub used: Bytes,
    /// Most so far, where the kernel tells.
    pub peak: Option<Bytes>,
    /// The limit; zero when there is none.
    pub limit: Bytes,
}

/// One job's place in every tree.
#[derive(Debug)]
pub struct JobCgroup {
    trees: Cgroups,
    path: PathBuf,
}

impl Cgroups {
    /// The groups of a job, which may or may not exist.
    pub fn job(&self, prefix: &str, partition: &str, name: &str) -> io::Result<JobCgroup> {
        Ok(JobCgroup { trees: self.clone(), path: files::relative(&[prefix, partition, name])? })
    }

    /// Makes the groups of a job with all their limits.
    pub(crate) fn create(
        &self,
        spec: &CgroupSpec,
        devices: &[DeviceRule],
    ) -> io::Result<JobCgroup> {
        let job = self.job(&spec.prefix, &spec.partition, &spec.name)?;
        for hierarchy in &self.v1 {
            v1::make(hierarchy, &job.path)?;
            v1::limit(hierarchy, &hierarchy.mount.join(&job.path), spec, devices)?;
        }
        if let Some(unified) = &self.unified {
            v2::make(unified, &job.path)?;
            let dir = unified.join(&job.path);
            v2::limit(&dir, spec)?;
            if self.v1.is_empty() {
                device_filter::attach(&dir, devices)?;
            }
        }
        Ok(job)
    }
}

impl JobCgroup {
    /// Moves a process, and what it will fork, into all groups.
    pub fn attach(&self, pid: u32) -> io::Result<()> {
        self.dirs().iter().try_for_each(|dir| write(&dir.join("cgroup.procs"), &pid.to_string()))
    }

    /// Kills everybody in it, also what was forked meanwhile. Returns before they are gone.
    pub fn kill(&self) -> io::Result<()> {
        sweep::kill_members(&self.trees, &self.path)
    }

    /// Whether no process is left in it.
    pub fn is_empty(&self) -> bool {
        self.dirs().iter().all(|dir| sweep::members(dir).is_empty())
    }

    /// Removes all groups, the job's own below them included, for at most `patience` while
    /// processes end. Missing ones are fine.
    pub fn remove(&self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        for dir in self.dirs() {
            while let Err(error) = sweep::remove_tree(&dir) {
                if Instant::now() >= deadline {
                    return Err(error);
                }
                std::thread::sleep(RETRY);
            }
        }
        Ok(())
    }

    /// Memory now, at most, and allowed.
    pub fn memory(&self) -> Option<MemoryUse> {
        let (dir, names) = self.memory_files()?;
        Some(MemoryUse {
            used: Bytes(number(&dir.join(names.used))?),
            peak: number(&dir.join(names.peak)).map(Bytes),
            limit: Bytes(number(&dir.join(names.limit)).unwrap_or(0)),
        })
    }

    /// CPU time used so far.
    pub fn cpu_time(&self) -> Option<Duration> {
        if let Some(unified) = &self.trees.unified {
            let file = unified.join(&self.path).join("cpu.stat");
            return keyed_number(&file, "usage_usec").map(Duration::from_micros);
        }
        let hierarchy = self.trees.controller("cpuacct")?;
        number(&hierarchy.mount.join(&self.path).join("cpuacct.usage")).map(Duration::from_nanos)
    }

    /// Processes killed for lack of memory.
    pub fn oom_kills(&self) -> u64 {
        let Some((dir, names)) = self.memory_files() else { return 0 };
        keyed_number(&dir.join(names.events), "oom_kill").unwrap_or(0)
    }

    /// Something to poll whose readiness says that [`oom_kills`](Self::oom_kills) may have grown.
    pub(crate) fn oom_watch(&self) -> io::Result<Option<OomWatch>> {
        let Some((dir, names)) = self.memory_files() else { return Ok(None) };
        if names == V2_MEMORY {
            return Ok(Some(OomWatch::Events(File::open(dir.join(names.events))?)));
        }
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let control = File::open(dir.join(names.events))?;
        let order = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        write(&dir.join("cgroup.event_control"), &order)?;
        Ok(Some(OomWatch::Eventfd(event)))
    }

    /// Its directories in the hierarchies of v1, and in the v2 tree.
    pub(super) fn places(&self) -> (Vec<PathBuf>, Option<PathBuf>) {
        let v1 = self.trees.v1.iter().map(|hierarchy| hierarchy.mount.join(&self.path)).collect();
        (v1, self.trees.unified.as_ref().map(|mount| mount.join(&self.path)))
    }

    /// The directories of the job in all trees.
    pub fn dirs(&self) -> Vec<PathBuf> {
        self.trees.dirs(&self.path)
    }

    /// Where memory is accounted, and the files there.
    fn memory_files(&self) -> Option<(PathBuf, MemoryFiles)> {
        if let Some(hierarchy) = self.trees.controller("memory") {
            return Some((hierarchy.mount.join(&self.path), V1_MEMORY));
        }
        let dir = self.trees.unified.as_ref()?.join(&self.path);
        v2::controllers(&dir).iter().any(|name| name == "memory").then_some((dir, V2_MEMORY))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct MemoryFiles {
    used: &'static str,
    peak: &'static str,
    limit: &'static str,
    /// Counts kills.
    events: &'static str,
}

const V1_MEMORY: MemoryFiles = MemoryFiles {
    used: "memory.usage_in_bytes",
    peak: "memory.max_usage_in_bytes",
    limit: "memory.limit_in_bytes",
    events: "memory.oom_control",
};
const V2_MEMORY: MemoryFiles = MemoryFiles {
    used: "memory.current",
    peak: "memory.peak",
    limit: "memory.max",
    events: "memory.events",
};

/// How the kernel tells of a kill for lack of memory.
#[derive(Debug)]
pub(crate) enum OomWatch {
    /// v1: readable.
    Eventfd(OwnedFd),
    /// v2: exceptional condition.
    Events(File),
}

impl OomWatch {
    /// What to poll for.
    pub(crate) fn flags(&self) -> PollFlags {
        match self {
            Self::Eventfd(_) => PollFlags::IN,
            Self::Events(_) => PollFlags::PRI,
        }
    }

    /// Takes the notice, so that the next one shows again.
    pub(crate) fn acknowledge(&self) {
        let mut buffer = [0; 512];
        // Nothing to learn from the content here: the counters tell.
        let _ = match self {
            Self::Eventfd(event) => rustix::io::read(event, &mut buffer[..8]).map(drop),
            Self::Events(file) => rustix::io::pread(file, &mut buffer, 0).map(drop),
        };
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Eventfd(event) => event.as_fd(),
            Self::Events(file) => file.as_fd(),
        }
    }
}

/// Groups directly under `dir`.
pub(super) fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|e| e.path())
        .collect()
}
