//! What became of a job: its snapshot, its status, and the events about it.

use std::fmt;
use std::net::IpAddr;

use kit_http::null_as_default;
use kit_ids::JobId;
use serde::{Deserialize, Serialize};

use crate::omit::{blank_as_none, empty};
use crate::{Job, Timestamp};

/// A job a host knows, as of now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveJob {
    /// What was asked for, with what the host filled in.
    pub job: Job,
    /// The host.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub host_id: String,
    /// The job's address, while it has one.
    #[serde(default, deserialize_with = "blank_as_none", skip_serializing_if = "Option::is_none")]
    pub internal_ip: Option<IpAddr>,
    /// Host pid of the job's first process, while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Somebody asked for its end.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub force_stop: bool,
    /// Where it stands.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub status: JobStatus,
    /// When it was added.
    #[serde(default, deserialize_with = "null_as_default")]
    pub created_at: Timestamp,
    /// When its program started.
    #[serde(default, deserialize_with = "null_as_default")]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, deserialize_with = "null_as_default")]
    pub ended_at: Timestamp,
    /// The program's exit status, once it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// Why it never ran, or why it was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where a job stands. On the wire a number; `starting` is left out.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "u8", try_from = "u8")]
pub enum JobStatus {
    /// Accepted; its program does not run yet.
    #[default]
    Starting,
    /// Its program runs.
    Running,
    /// Its program ended with exit status 0.
    Done,
    /// Its program ended with another exit status.
    Crashed,
    /// Its program never ran.
    Failed,
}

impl JobStatus {
    const ALL: [Self; 5] = [Self::Starting, Self::Running, Self::Done, Self::Crashed, Self::Failed];

    /// The name people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Crashed => "crashed",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing can happen to the job any more.
    pub fn has_ended(self) -> bool {
        match self {
            Self::Starting | Self::Running => false,
            Self::Done | Self::Crashed | Self::Failed => true,
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A number that is no job status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no job status: they are 0 to 4")]
pub struct UnknownStatus(pub u8);

impl From<JobStatus> for u8 {
    fn from(status: JobStatus) -> Self {
        status as Self
    }
}

impl TryFrom<u8> for JobStatus {
    type Error = UnknownStatus;
    fn try_from(number: u8) -> Result<Self, UnknownStatus> {
        Self::ALL.get(usize::from(number)).copied().ok_or(UnknownStatus(number))
    }
}

/// Something happened to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub event: EventKind,
    /// To which job.
    pub job_id: JobId,
    /// The job as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<ActiveJob>,
}

/// What happened to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// It was added.
    Create,
    /// Its program runs.
    Start,
    /// Its program ended.
    Stop,
    /// It never ran.
    Error,
    /// Its mounts, address and files are released.
    Cleanup,
    /// A kind this client does not know.
    #[serde(other)]
    Unknown,
}
