//! What somebody asks a host to run. What became of it is [`crate::ActiveJob`].

use std::collections::BTreeMap;
use std::fmt;

use kit_http::null_as_default;
use kit_ids::JobId;
use serde::{Deserialize, Serialize};

use crate::ContainerConfig;
use crate::omit::empty;

/// Metadata of a job that a host started in place of another one: the other one's id.
pub const META_PREDECESSOR: &str = "flynn-host.predecessor";
/// Metadata of such a job: how many there were before it.
pub const META_RESTARTS: &str = "flynn-host.restarts";

/// A job to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// `<host id>-<uuid>`.
    pub id: JobId,
    /// The image's layers, bottom first.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub mountspecs: Vec<Mountspec>,
    /// Free texts; those of the controller begin with `flynn-controller.`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub metadata: BTreeMap<String, String>,
    /// What the job needs and may use.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub resources: Resources,
    /// `user`, `background` or `system`; empty means `user`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub partition: String,
    /// How the program runs.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: ContainerConfig,
    /// Whether its host restarts it whenever it ended without a stop request.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub resurrect: bool,
    /// Bundles of devices and capabilities.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Profile>,
}

impl Job {
    /// A job that states nothing but its id.
    pub fn new(id: JobId) -> Self {
        Self {
            id,
            mountspecs: Vec::new(),
            metadata: BTreeMap::new(),
            resources: Resources::default(),
            partition: String::new(),
            config: ContainerConfig::default(),
            resurrect: false,
            profiles: Vec::new(),
        }
    }

    /// A text of the metadata.
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }
}

/// One layer of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mountspec {
    /// `squashfs`.
    #[serde(rename = "type", deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub kind: String,
    /// The layer's id.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub id: String,
    /// Where it can be fetched.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub url: String,
    /// Its length in bytes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub size: i64,
    /// Its digests by algorithm: `sha256`, `sha512`, `sha512_256`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub hashes: BTreeMap<String, String>,
    /// Free texts.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub meta: BTreeMap<String, String>,
}

/// A bundle of devices and capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// ZFS administration.
    Zfs,
    /// Virtual machines.
    Kvm,
    /// A loop device.
    Loop,
}

/// What a job needs and may use, by kind. Kinds this build does not know are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resources(pub BTreeMap<String, Resource>);

/// One kind of resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// What is reserved.
    pub request: Option<i64>,
    /// What may be used at most.
    pub limit: Option<i64>,
}

/// The kinds of resources a host knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// Bytes of memory.
    Memory,
    /// Thousandths of a processor.
    Cpu,
    /// Bytes of scratch disk.
    TempDisk,
    /// Open files.
    MaxFd,
    /// Processes and threads.
    MaxProcs,
}

impl ResourceKind {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::TempDisk => "temp_disk",
            Self::MaxFd => "max_fd",
            Self::MaxProcs => "max_procs",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Resources {
    /// What is stated of a kind.
    pub fn get(&self, kind: ResourceKind) -> Resource {
        self.0.get(kind.as_str()).copied().unwrap_or_default()
    }

    /// States request and limit of a kind.
    pub fn set(&mut self, kind: ResourceKind, request: Option<i64>, limit: Option<i64>) {
        self.0.insert(kind.as_str().to_owned(), Resource { request, limit });
    }
}
