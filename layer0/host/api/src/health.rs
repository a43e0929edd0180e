//! How the machine of a host is at this moment: the answer of `GET /host/health`, ours.

use std::net::Ipv4Addr;

use kit_http::null_as_default;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// How the machine is, for whoever looks for what is wrong with a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostHealth {
    /// Its clock, read while it answered.
    pub now: Timestamp,
    /// Where state, layers, volumes and scratch disks are.
    pub data_dir: String,
    /// The file system of that folder.
    pub disk: Space,
    /// Memory; free is what can be had without swapping.
    pub memory: Space,
    /// The other hosts it knows, by address.
    #[serde(deserialize_with = "null_as_default")]
    pub members: Vec<Ipv4Addr>,
}

/// How much there is and how much of it is free, in bytes. A total of zero means that it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What is not used.
    pub free: u64,
}
