//! How a job's program runs: arguments, environment, mounts, ports, permissions.

use std::collections::BTreeMap;
use std::time::Duration;

use kit_http::null_as_default;
use serde::{Deserialize, Serialize};

use crate::omit::empty;

/// How a job's program runs. Everything may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Program and arguments.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub args: Vec<String>,
    /// Give the program a terminal.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub tty: bool,
    /// Connect standard input.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub stdin: bool,
    /// Kept for old clients.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub data: bool,
    /// Environment of the program.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub env: BTreeMap<String, String>,
    /// Host directories.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub mounts: Vec<Mount>,
    /// Volumes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub volumes: Vec<VolumeBinding>,
    /// Ports the program listens on.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub ports: Vec<Port>,
    /// Where the program starts.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub working_dir: String,
    /// User of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Use the host's network.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub host_network: bool,
    /// Use the host's process ids.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub host_pid_namespace: bool,
    /// Output goes to the attacher only.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub disable_log: bool,
    /// Exactly these capabilities, `CAP_` and all; none stated means the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux_capabilities: Option<Vec<String>>,
    /// Devices the job may use.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub allowed_devices: Vec<Device>,
    /// Devices that are there from the start.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub auto_created_devices: Vec<Device>,
    /// Make the job's cgroups writable.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub writeable_cgroups: bool,
    /// Ours: the job registers itself in discoverd, through its host's proxy.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub register: bool,
}

/// A host path or file system made visible in the job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Path in the container.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub location: String,
    /// Source on the host.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub target: String,
    /// Read-only unless set.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub writeable: bool,
    /// File system type; empty for a bind mount.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub device: String,
    /// Options of the file system.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub data: String,
    /// Mount flags.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub flags: u64,
}

/// A volume of the job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeBinding {
    /// Path in the container.
    #[serde(deserialize_with = "null_as_default")]
    pub target: String,
    /// The volume's id.
    #[serde(deserialize_with = "null_as_default")]
    pub volume: String,
    /// Read-only unless set.
    #[serde(deserialize_with = "null_as_default")]
    pub writeable: bool,
    /// Destroy the volume when the job ends.
    #[serde(deserialize_with = "null_as_default")]
    pub delete_on_stop: bool,
}

/// A port the program listens on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// The number; zero lets the host choose.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub port: u16,
    /// `tcp` or `udp`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub proto: String,
    /// What to register while the port answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
}

/// A service to register in discoverd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name of the service.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub name: String,
    /// Create the service first.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub create: bool,
    /// Register only while this check passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<HealthCheck>,
}

/// How to tell whether a service answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// `tcp`, `http` or `https`.
    #[serde(rename = "type", deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub kind: String,
    /// Between checks.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub interval: Nanoseconds,
    /// Consecutive results that change the status.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub threshold: u32,
    /// Kill the job when it is down.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub kill_down: bool,
    /// How long `kill_down` waits at first.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub start_timeout: Nanoseconds,
    /// Path of the request.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub path: String,
    /// Host header.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub host: String,
    /// Text that must occur in the answer.
    #[serde(rename = "match", deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub expect_text: String,
    /// Expected status.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub status: u16,
}

/// A duration on the wire: integer nanoseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanoseconds(pub i64);

impl Nanoseconds {
    /// As a duration; what is negative counts as zero.
    pub fn duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<Duration> for Nanoseconds {
    fn from(span: Duration) -> Self {
        Self(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// A device the job may use. Numbers of -1 mean every one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// 99 (`c`) or 98 (`b`).
    #[serde(rename = "type")]
    pub kind: u32,
    /// The node; empty makes none.
    pub path: String,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
    /// Mode of the node.
    pub file_mode: u32,
    /// Owner of the node.
    pub uid: u32,
    /// Group of the node.
    pub gid: u32,
    /// Allow rather than deny.
    pub allow: bool,
}
