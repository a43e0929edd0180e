//! What a host says about itself, and what it is told about the cluster.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use kit_http::null_as_default;
use kit_ids::HostId;
use serde::{Deserialize, Serialize};

use crate::ResourceKind;
use crate::omit::empty;

/// The answer of `GET /host/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// The host.
    pub id: HostId,
    /// Its tags.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub tags: BTreeMap<String, String>,
    /// Pid of the daemon.
    pub pid: u32,
    /// Where its API is.
    pub url: String,
    /// What it was told of discoverd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discoverd: Option<DiscoverdConfig>,
    /// What it was told of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkConfig>,
    /// Version of the daemon.
    pub version: String,
    /// The daemon's arguments; `null` when there are none.
    #[serde(default)]
    pub flags: Option<Vec<String>>,
    /// Ours: what the host has and what is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<HostResources>,
    /// Ours: the host is being emptied and takes no new jobs.
    #[serde(default, skip_serializing_if = "empty")]
    pub draining: bool,
    /// Ours: how jobs are isolated here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
}

/// What a host has for jobs and what of it is reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostResources {
    /// Bytes of memory.
    pub memory: Capacity,
    /// Thousandths of processors.
    pub cpu: Capacity,
    /// Grows with every reservation made or given back.
    pub generation: u64,
}

/// How much there is of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// All that jobs can have.
    pub total: u64,
    /// What jobs have reserved.
    pub reserved: u64,
}

/// How jobs are isolated on a host, as its probe found at start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// `full`, `dirs-only` or `off`.
    pub userns: String,
    /// How layers are kept: `squashfs` or `directory`.
    pub layers: String,
    /// How scratch disk is bounded: `quota` or `image`.
    pub scratch: String,
    /// Why, where something is missing.
    #[serde(default, skip_serializing_if = "empty")]
    pub reason: String,
}

/// The body of `POST /host/discoverd`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiscoverdConfig {
    /// The job discoverd runs in.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub job_id: String,
    /// Comma list of URLs for the DISCOVERD variable of jobs.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub url: String,
    /// Address of its DNS.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub dns: String,
}

/// The body of `POST /host/network`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkConfig {
    /// The job the overlay runs in.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub job_id: String,
    /// The bridge's address with its prefix length.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub subnet: String,
    /// Largest packet.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub mtu: u32,
    /// Name servers of the host.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub resolvers: Vec<String>,
    /// Ours: the way to the jobs of other hosts. Absent: what was told before stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay: Option<OverlayConfig>,
}

/// What a host must know of the network between hosts to keep its rules across them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverlayConfig {
    /// All hosts' subnets together, such as `100.100.0.0/16`.
    pub network: String,
    /// `vxlan`, `host-gw` or `alloc`: how packets get to other hosts.
    pub backend: String,
    /// The number of the virtual network, of the backend `vxlan`.
    #[serde(skip_serializing_if = "empty")]
    pub vni: u32,
    /// Its UDP port.
    #[serde(skip_serializing_if = "empty")]
    pub port: u16,
    /// The external addresses of the hosts that have a subnet, this one among them.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub hosts: Vec<std::net::Ipv4Addr>,
}

/// The body of `POST /host/members`, ours: addresses of other hosts of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberChange {
    /// These may reach the host's guarded ports.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub add: Vec<Ipv4Addr>,
    /// These no longer.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub remove: Vec<Ipv4Addr>,
}

/// The body of `POST /host/draining`, ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// Whether the host is being emptied.
    pub draining: bool,
}

/// The body of `POST /host/resource-check`, and the detail of its conflict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceCheck {
    /// Ports that must be free.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub ports: Vec<HostPort>,
}

/// A port of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostPort {
    /// Its number.
    pub port: u16,
    /// `tcp` or `udp`; empty means `tcp`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub proto: String,
}

/// The detail of a `conflict` with which a host refuses a job for lack of room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What there is too little of.
    pub resource: ResourceKind,
    /// How much the job asked for.
    pub requested: u64,
    /// How much is free.
    pub available: u64,
    /// The host's generation when it refused.
    pub generation: u64,
}

/// The body and answer of `POST /host/update`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Command {
    /// The new daemon's program.
    pub path: String,
    /// Its arguments.
    #[serde(deserialize_with = "null_as_default")]
    pub args: Vec<String>,
    /// Its pid, in the answer.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub pid: u32,
    /// How long the old daemon stays, nanoseconds.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Option::is_none")]
    pub shutdown_delay: Option<i64>,
}

/// One item of the stream of `POST /host/pull/images`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PullInfo {
    /// Name of the image.
    pub name: String,
    /// `image` or `layer`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The artifact, of an image.
    pub artifact: Option<serde_json::Value>,
    /// The layer, of a layer.
    pub layer: Option<serde_json::Value>,
}
