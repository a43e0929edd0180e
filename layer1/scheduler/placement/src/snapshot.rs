//! What the planner is told: the whole world as far as it matters for placement, at one moment.

use std::collections::BTreeMap;
use std::fmt;

use kit_clock::{Mono, Wall};
use kit_ids::{AppId, HostId, JobId, ReleaseId, VolumeId};
use kit_units::{Bytes, Millicpu};

/// Hosts, wishes and jobs at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Every known host, silent ones included. A job on a host that is not here counts as lost.
    pub hosts: BTreeMap<HostId, Host>,
    /// What is wanted. Jobs of a formation that is not here are left alone.
    pub formations: BTreeMap<FormationKey, Formation>,
    /// Everything that runs or was ordered, one-off jobs too: they use room.
    pub jobs: Vec<Job>,
    /// Volumes that hold data of formation jobs.
    pub volumes: BTreeMap<VolumeId, Volume>,
    /// Ended jobs whose replacement has not been started.
    pub retries: Vec<Retry>,
    /// Hosts that refused a job, and until when they are not asked again.
    pub refusals: Vec<Refusal>,
    /// Names this snapshot; the plan carries it.
    pub generation: u64,
}

/// An app's release: what a formation is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FormationKey {
    /// The app.
    pub app: AppId,
    /// The release.
    pub release: ReleaseId,
}

/// The name of a process type, such as `web`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessName(String);

impl ProcessName {
    /// The name as it stands in the release.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ProcessName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a job holds of a host, whether it uses it or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Memory.
    pub memory: Bytes,
    /// Processor share.
    pub cpu: Millicpu,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// What operators wrote on it.
    pub tags: BTreeMap<String, String>,
    /// What it can hand out in all.
    pub capacity: Reservation,
    /// Whether it can be used.
    pub state: HostState,
}

/// Whether a host can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// Takes jobs.
    Serving,
    /// Takes no new jobs; what runs there is replaced elsewhere before it is stopped.
    Draining,
    /// Not heard of since then. It counts as lost after [`Policy::lost_after`](crate::Policy).
    Silent {
        /// The later of its last answer and this scheduler's first full view.
        since: Mono,
    },
}

/// What is wanted of one release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formation {
    /// Part of the platform: planned first, so that apps cannot take its room.
    pub system: bool,
    /// Its last running formation is never taken away.
    pub critical: bool,
    /// Wishes by process type.
    pub processes: BTreeMap<ProcessName, Process>,
}

/// What is wanted of one process type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// How many; per host when `omni`.
    pub count: u32,
    /// Runs on every host.
    pub omni: bool,
    /// Its jobs belong to their host, which restarts them.
    pub resurrect: bool,
    /// Tags a host must have.
    pub tags: BTreeMap<String, String>,
    /// What one job holds of a host.
    pub reservation: Reservation,
    /// Volumes each job needs.
    pub volumes: Vec<VolumeNeed>,
}

impl Process {
    /// Whether its jobs leave data behind that a replacement must find again.
    pub fn keeps_data(&self) -> bool {
        self.volumes.iter().any(|need| !need.delete_on_stop)
    }
}

/// A volume a job needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeNeed {
    /// Where it is mounted, which also names it between jobs.
    pub path: String,
    /// It goes with its job.
    pub delete_on_stop: bool,
}

/// A job that runs or was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id, which names its host.
    pub id: JobId,
    /// Where it is.
    pub host: HostId,
    /// Whose it is; one-off jobs have none.
    pub formation: Option<FormationKey>,
    /// Its process type.
    pub process: ProcessName,
    /// How far it got.
    pub state: JobState,
    /// When it was made; the newest is stopped first.
    pub created: Wall,
    /// What it holds of its host.
    pub reservation: Reservation,
}

/// How far a job got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobState {
    /// Recorded; whether the host took it is not known yet.
    Intended,
    /// Ended, and its host is about to start its successor.
    Resurrecting,
    /// The host is starting it.
    Starting,
    /// It runs and, where it has a service, answers.
    Running,
    /// It was told to stop and may still run. It is no longer one of those wanted, but it holds its
    /// room, and nothing takes its place before its host says that it ended.
    Stopping,
}

impl JobState {
    /// Whether it is one of those that are wanted.
    pub fn counts(self) -> bool {
        match self {
            Self::Intended | Self::Resurrecting | Self::Starting | Self::Running => true,
            Self::Stopping => false,
        }
    }
}

/// A volume with data of a formation's jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where it is.
    pub host: HostId,
    /// Whose data it holds.
    pub formation: FormationKey,
    /// The process type.
    pub process: ProcessName,
    /// Where jobs mount it.
    pub path: String,
    /// Whether a job may have it.
    pub state: VolumeState,
}

/// Whether a job may have a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeState {
    /// Nobody uses it.
    Free,
    /// A job has it.
    Held,
    /// An operator took it out of use.
    Decommissioned,
}

/// An ended job that is to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Whose job it was.
    pub formation: FormationKey,
    /// Its process type.
    pub process: ProcessName,
    /// Where it ran: for omni types the replacement belongs there.
    pub host: HostId,
    /// How often the job's line has been restarted; the replacement has one more.
    pub restarts: u32,
    /// Not before then.
    pub not_before: Mono,
}

/// A host's no to a process type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who refused.
    pub host: HostId,
    /// What was refused.
    pub formation: FormationKey,
    /// Its process type.
    pub process: ProcessName,
    /// The host's words.
    pub why: String,
    /// It is asked again after this.
    pub until: Mono,
}
