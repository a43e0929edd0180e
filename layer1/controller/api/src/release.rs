//! Releases: immutable descriptions of how an app's processes run.

use std::collections::BTreeMap;

use kit_ids::{AppId, ArtifactId, ReleaseId};
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::wire::{absent, blank_as_none, lenient, texts};
use crate::{Device, Mount, Resources, Service};

/// What a release runs: images, environment, process types. Never changed after it was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Release {
    /// The release's id.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub id: Option<ReleaseId>,
    /// The app it belongs to.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub app_id: Option<AppId>,
    /// Images and file sets, the bottom one first.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub artifacts: Vec<ArtifactId>,
    /// Environment of every process.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub env: BTreeMap<String, String>,
    /// Free texts: `git`, `docker-receive`, `slugrunner.stack` have a meaning.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub meta: BTreeMap<String, String>,
    /// The process types by name.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub processes: BTreeMap<String, ProcessType>,
    /// When it was made.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub created_at: Option<Timestamp>,
    /// The first of `artifacts`, for old clients; on create used only when `artifacts` is empty.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub artifact: Option<ArtifactId>,
}

/// How the jobs of one process type run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessType {
    /// The program and its arguments; empty means the image's entrypoint.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub args: Vec<String>,
    /// Environment on top of the release's.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub env: BTreeMap<String, String>,
    /// Ports the process listens on; number 0 lets the host choose.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub ports: Vec<Port>,
    /// Storage that outlives the job.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub volumes: Vec<VolumeReq>,
    /// The count is per host.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub omni: bool,
    /// Runs in the host's network.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub host_network: bool,
    /// Sees the host's processes.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub host_pid_namespace: bool,
    /// The service in which a job counts as up once it is registered there.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub service: String,
    /// The host restarts it, not the scheduler.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub resurrect: bool,
    /// Limits; what is missing is filled in when the release is made.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub resources: Resources,
    /// Mounts from the host.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub mounts: Vec<Mount>,
    /// Sets of devices and rights by name (`zfs`, `kvm`, `loop`).
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub profiles: Vec<String>,
    /// Replaces the host's default capabilities.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub linux_capabilities: Vec<String>,
    /// Replaces the host's default devices.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub allowed_devices: Vec<Device>,
    /// The process may write its cgroups.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub writeable_cgroups: bool,
    /// The process registers services of its own app itself (ours: see the design, D5).
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub register: bool,
    /// Deprecated: the end of `args`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub cmd: Vec<String>,
    /// Deprecated: the start of `args`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub entrypoint: Vec<String>,
    /// Deprecated: a volume at `/data`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub data: bool,
}

/// A port a process listens on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// The number; 0 lets the host choose.
    #[serde(deserialize_with = "lenient")]
    pub port: u16,
    /// `tcp` or `udp`.
    #[serde(deserialize_with = "lenient")]
    pub proto: String,
    /// What is registered while the port answers.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub service: Option<Service>,
}

impl From<Port> for host_api::Port {
    fn from(port: Port) -> Self {
        Self { port: port.port, proto: port.proto, service: port.service }
    }
}

/// Storage a process asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeReq {
    /// Where the job sees it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub path: String,
    /// It goes when the job ends.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub delete_on_stop: bool,
}

/// What the deletion of a release took away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReleaseDeletion {
    /// The app it was deleted from.
    #[serde(serialize_with = "crate::wire::none_as_blank", deserialize_with = "blank_as_none")]
    pub app: Option<AppId>,
    /// The release.
    #[serde(serialize_with = "crate::wire::none_as_blank", deserialize_with = "blank_as_none")]
    pub release: Option<ReleaseId>,
    /// Apps that still use it, which is why it stays.
    pub remaining_apps: Option<Vec<AppId>>,
    /// URLs of the files deleted from the blob store.
    pub deleted_files: Option<Vec<String>>,
}

/// The data of an event `release_deletion`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReleaseDeletionEvent {
    /// What was deleted.
    pub release_deletion: Option<ReleaseDeletion>,
    /// Why it failed; empty when it did not.
    pub error: String,
}
