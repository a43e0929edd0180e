//! What the endpoints about discoverd's own servers say, and what a host is told about them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The answer of `GET /raft/leader`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftLeader {
    /// `ip:port`.
    pub host: String,
}

/// One item of the answer of `GET /raft/members`, ours: a server that has the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RaftMember {
    /// `ip:port`.
    pub addr: String,
    /// Whether it counts for a quorum.
    pub votes: bool,
}

/// The body of `POST /raft/rebuild`, ours: the last resort for a quorum that is gone for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// The voters that never come back, as `ip:port`: all that are silent.
    pub lost: BTreeSet<String>,
}

/// The answer of `PUT /raft/peers/:peer` and `POST /shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastIndex {
    /// The last index of the log.
    pub last_index: u64,
}

/// The body of the notification a host gets: `POST /host/discoverd`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverdConfig {
    /// The job discoverd runs in; empty outside of a job.
    #[serde(default)]
    pub job_id: String,
    /// Comma list of `host:port`, no scheme.
    #[serde(default)]
    pub url: String,
    /// Where DNS is answered, empty until it is.
    #[serde(default)]
    pub dns: String,
}

/// The metadata of service `discoverd` while its servers are replaced one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDeployment {
    /// The deployment.
    pub id: String,
    /// How far each server, by `ip:port`, is.
    #[serde(default)]
    pub states: BTreeMap<String, DeploymentState>,
}

/// How far one server of a [`ServiceDeployment`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeploymentState {
    /// The new server takes over now.
    Performing,
    /// The new server serves.
    Done,
}
