//! What a caller asks for a job, and what it gets.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use kit_ids::{AppId, JobId};
use serde::{Deserialize, Serialize};

/// Who a job belongs to; decides what it may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partition {
    /// Apps of people.
    User,
    /// Builds and other work that may wait.
    Background,
    /// The platform itself.
    System,
}

impl Partition {
    /// All of them, in a fixed order.
    pub const ALL: [Self; 3] = [Self::User, Self::Background, Self::System];

    /// The name on the wire and of the firewall's set.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Background => "background",
            Self::System => "system",
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A partition this host does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no partition: there are user, background and system")]
pub struct PartitionError(String);

impl FromStr for Partition {
    type Err = PartitionError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|partition| partition.as_str() == text);
        found.ok_or_else(|| PartitionError(text.to_owned()))
    }
}

/// A TCP address a job may reach although its partition may not: the registration proxy on the bridge's
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where.
    pub ip: Ipv4Addr,
    /// Its TCP port.
    pub port: u16,
}

/// A job that needs a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRequest {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub partition: Partition,
    /// The app, if there is one: its jobs may have each other's addresses at once, others wait.
    pub app: Option<AppId>,
    /// More than the partition allows.
    pub allow: BTreeSet<Endpoint>,
    /// Its TCP ports that jobs of partition background may reach: what builds need of the platform.
    pub for_builds: BTreeSet<u16>,
}

impl JobRequest {
    /// A job with what its partition allows, of no app.
    pub fn new(job: JobId, partition: Partition) -> Self {
        Self { job, partition, app: None, allow: BTreeSet::new(), for_builds: BTreeSet::new() }
    }

    /// Names the app.
    #[must_use]
    pub fn of_app(mut self, app: AppId) -> Self {
        self.app = Some(app);
        self
    }

    /// Allows one more address.
    #[must_use]
    pub fn allowing(mut self, ip: Ipv4Addr, port: u16) -> Self {
        self.allow.insert(Endpoint { ip, port });
        self
    }

    /// Opens a port of the job to builds.
    #[must_use]
    pub fn serving_builds(mut self, port: u16) -> Self {
        self.for_builds.insert(port);
        self
    }
}

/// The network a job got. It stays until the job is detached, whatever happens to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobNetwork {
    /// The pinned network namespace: open it and `setns`. Link `eth0` is up, with address, default
    /// route and loopback; any program in it may bind ports below 1024 and ping.
    pub netns: PathBuf,
    /// The job's address.
    pub ip: Ipv4Addr,
    /// How many bits of it name the subnet.
    pub prefix_len: u8,
    /// Its default route and name server: the bridge.
    pub gateway: Ipv4Addr,
    /// The hardware address of `eth0`.
    pub mac: String,
    /// The host's end of the pair.
    pub veth: String,
    /// The largest packet.
    pub mtu: u32,
}
