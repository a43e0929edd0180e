//! Jobs as the controller records them, and requests for one-off jobs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use kit_ids::{AppId, ArtifactId, HostId, JobId, ParseIdError, ReleaseId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::wire::{absent, blank_as_none, lenient, none_as_blank, texts};
use crate::{Resources, Timestamp};

/// The part of a job's id that stays the same before and after it was placed on a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct JobUuid(String);

impl JobUuid {
    /// The id as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of a job on this host.
    pub fn on(&self, host: &HostId) -> Result<JobId, ParseIdError> {
        format!("{host}-{}", self.0).parse()
    }
}

impl FromStr for JobUuid {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if kit_ids::is_uuid(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError::NotAUuid(text.to_owned()))
        }
    }
}

impl TryFrom<&JobId> for JobUuid {
    type Error = ParseIdError;
    fn try_from(id: &JobId) -> Result<Self, Self::Error> {
        id.unique_part().parse()
    }
}

impl fmt::Display for JobUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for JobUuid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A job as the controller knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// The id on its host; absent while it is not placed.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub id: Option<JobId>,
    /// The id of the record.
    #[serde(deserialize_with = "blank_as_none", serialize_with = "none_as_blank")]
    pub uuid: Option<JobUuid>,
    /// The host it was placed on.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub host_id: Option<HostId>,
    /// The app.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub app: Option<AppId>,
    /// The release.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub release: Option<ReleaseId>,
    /// The process type; empty for one-off jobs.
    #[serde(rename = "type", deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub process_type: String,
    /// How far it is.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub state: Option<JobState>,
    /// The program and its arguments.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub args: Vec<String>,
    /// Its volumes, in order.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub volumes: Vec<VolumeId>,
    /// Free texts.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub meta: BTreeMap<String, String>,
    /// How its program ended.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub exit_status: Option<i32>,
    /// Why it could not run, or why it waits.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub host_error: Option<String>,
    /// When it is to be started.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub run_at: Option<Timestamp>,
    /// How many jobs ended before this one took their place.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub restarts: Option<i32>,
    /// When the record was made.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub created_at: Option<Timestamp>,
    /// When the record was last changed.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub updated_at: Option<Timestamp>,
}

crate::names::text_enum! {
    /// How far a job is.
    JobState {
        /// To be placed.
        Pending = "pending",
        /// On its host, not yet running.
        Starting = "starting",
        /// Runs (and is registered, when it has a service).
        Up = "up",
        /// Was asked to stop.
        Stopping = "stopping",
        /// Ended.
        Down = "down",
        /// Old records: ended with a failure.
        Crashed = "crashed",
        /// Old records: never ran.
        Failed = "failed",
        /// Waits for a host; known to the scheduler only, never recorded.
        Blocked = "blocked",
    }
}

impl JobState {
    /// Whether a job in this state holds or will hold a place on a host.
    pub fn is_active(self) -> bool {
        match self {
            Self::Pending | Self::Starting | Self::Up | Self::Stopping => true,
            Self::Down | Self::Crashed | Self::Failed | Self::Blocked => false,
        }
    }
}

/// The header that names the turn in which a scheduler records a job.
pub const SCHEDULER_TURN: &str = "flynn-scheduler-turn";

/// The answer of `POST /scheduler-turns`, of ours: turns are numbered, and only jobs recorded in the
/// latest one are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerTurn {
    /// Its number; each is greater than all before.
    pub turn: i64,
}

/// A request for a job outside any formation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewJob {
    /// The release to run.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub release: Option<ReleaseId>,
    /// Other artifacts than the release's.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub artifacts: Vec<ArtifactId>,
    /// Use the release's environment.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub release_env: bool,
    /// The program and its arguments; empty means the image's entrypoint.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub args: Vec<String>,
    /// Environment on top of all other.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub env: BTreeMap<String, String>,
    /// Free texts.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub meta: BTreeMap<String, String>,
    /// Give it a terminal.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub tty: bool,
    /// Width of the terminal.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub tty_columns: u16,
    /// Height of the terminal.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub tty_lines: u16,
    /// Keep its output out of the log.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub disable_log: bool,
    /// Limits; what is missing is filled in.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub resources: Resources,
    /// A volume at `/data` that goes with the job.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub data: bool,
    /// `background`, `system` or `user`.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub partition: Option<Partition>,
    /// Sets of devices and rights by name.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub profiles: Vec<String>,
    /// The process type whose mounts the job gets.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub mounts_from: String,
    /// Deprecated: the end of `args`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub cmd: Vec<String>,
    /// Deprecated: the start of `args`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub entrypoint: Vec<String>,
}

crate::names::text_enum! {
    /// The part of a host's resources a one-off job competes in.
    Partition {
        /// Work nobody waits for.
        Background = "background",
        /// Apps of people.
        User = "user",
        /// The platform.
        System = "system",
    }
}
