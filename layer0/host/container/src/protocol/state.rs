//! What became of a job: its state, the report a daemon reads, the record that outlives the
//! supervisor.

use kit_ids::JobId;
use kit_units::Bytes;
use serde::{Deserialize, Serialize};

use super::Stream;

/// Where a job stands. It only ever moves downwards in this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The container is being set up.
    Initial,
    /// Everything is set up; the program starts on [`Order::Resume`](super::Order::Resume).
    Ready,
    /// The program runs.
    Running,
    /// The program ran and ended.
    Exited,
    /// The program never ran.
    Failed,
}

impl State {
    /// Whether nothing can happen any more.
    pub fn has_ended(self) -> bool {
        match self {
            Self::Initial | Self::Ready | Self::Running => false,
            Self::Exited | Self::Failed => true,
        }
    }

    /// Whether a signal can reach the program.
    pub fn can_signal(self) -> bool {
        self == Self::Running
    }
}

/// Everything a daemon may know of a job that has a live supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReport {
    /// The job.
    pub job_id: JobId,
    /// Where it stands.
    pub state: State,
    /// Host pid of the job's first process, while it lives.
    pub pid: Option<u32>,
    /// Host pid of the supervisor.
    pub supervisor_pid: u32,
    /// Wall clock of the program's start, nanoseconds since the epoch.
    pub started_at_unix_ns: Option<u64>,
    /// How it ended, once `state.has_ended()`.
    pub exit: Option<ExitRecord>,
    /// Processes killed for lack of memory so far.
    pub oom_kills: u64,
    /// Spooled output, one entry for stdout, stderr and init.
    pub streams: Vec<StreamReport>,
    /// Registered services.
    pub services: Vec<ServiceReport>,
}

/// One spooled stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Which one.
    pub stream: Stream,
    /// Offset of the oldest byte still there.
    pub start: u64,
    /// Offset after the newest byte.
    pub end: u64,
}

/// One service of the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// Name in discoverd.
    pub name: String,
    /// `ip:port`.
    pub addr: String,
    /// Wanted up: no check, or the check passes.
    pub up: bool,
    /// Discoverd has acknowledged it.
    pub registered: bool,
}

/// The durable record of a job's end, `<job_dir>/exit.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The job.
    pub job_id: JobId,
    /// [`State::Exited`] or [`State::Failed`].
    pub state: State,
    /// Exit code, when the program exited by itself.
    pub code: Option<i32>,
    /// Signal that ended the program, when one did.
    pub signal: Option<i32>,
    /// Processes killed for lack of memory.
    pub oom_kills: u64,
    /// Most memory used, where the kernel tells.
    pub memory_peak: Option<Bytes>,
    /// Why the program never ran.
    pub error: Option<String>,
    /// Wall clock of the program's start, nanoseconds since the epoch.
    pub started_at_unix_ns: Option<u64>,
    /// Wall clock of the end, nanoseconds since the epoch.
    pub ended_at_unix_ns: u64,
}

impl ExitRecord {
    /// The status the wire shows: the exit code, and zero for a signalled program (spec/host.md §5).
    pub fn exit_status(&self) -> i32 {
        self.code.unwrap_or(0)
    }
}
