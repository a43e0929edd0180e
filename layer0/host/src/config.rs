//! How one daemon is set up, checked, with all defaults named here. What is told later over HTTP
//! (network, discoverd, tags) is [`crate::settings`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use host_api::Isolation;
use host_job::{Reservation, RestartRule, WireDefaults};
use host_network::Partition;
use kit_ids::HostId;
use kit_units::{Bytes, Millicpu};

/// Shares of partitions as the original has them.
pub const DEFAULT_PARTITIONS: &str =
    "system=cpu_shares:4096 background=cpu_shares:4096 user=cpu_shares:8192";

/// How the daemon of one host is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The host.
    pub id: HostId,
    /// Address other hosts reach it at.
    pub external_ip: Ipv4Addr,
    /// Where the API listens; the first address is the published one.
    pub listen: Vec<SocketAddr>,
    /// Durable state, layers, volumes, scratch.
    pub data_dir: PathBuf,
    /// Logs of jobs.
    pub log_dir: PathBuf,
    /// The folder of this host's cgroups.
    pub cgroup_prefix: String,
    /// The supervisor's program.
    pub init_binary: PathBuf,
    /// CPU shares by partition.
    pub partitions: BTreeMap<Partition, u64>,
    /// How many jobs may be in the making at one time.
    pub max_job_concurrency: usize,
    /// Addresses of other hosts, this one's own may be among them; they are members before discoverd knows them.
    pub peer_ips: Vec<Ipv4Addr>,
    /// Tags until others are posted.
    pub tags: BTreeMap<String, String>,
    /// The daemon's arguments, for its status.
    pub flags: Vec<String>,
    /// The daemon's version, for its status.
    pub version: String,
    /// Whether jobs with `resurrect` are restarted.
    pub resurrect: bool,
    /// Services of system jobs whose ports jobs of partition background reach, too.
    pub background_services: Vec<String>,
    /// What jobs may reserve; found from the machine when absent.
    pub capacity: Option<Reservation>,
    /// What jobs get that state nothing.
    pub defaults: WireDefaults,
    /// When jobs are restarted.
    pub restart: RestartRule,
    /// Between the request to end and the kill.
    pub stop_grace: Duration,
    /// Bound of one log file; each app has two.
    pub log_file_bytes: Bytes,
    /// Bound of all log files.
    pub log_total_bytes: Bytes,
    /// What the probe found; see [`crate::probe`].
    pub isolation: Isolation,
}

impl Config {
    /// A host with defaults for all but its name and places.
    pub fn new(id: HostId, external_ip: Ipv4Addr, data_dir: PathBuf) -> Self {
        let external = SocketAddr::new(IpAddr::V4(external_ip), host_api::PORT);
        Self {
            id,
            external_ip,
            listen: vec![external],
            log_dir: data_dir.join("logs"),
            data_dir,
            cgroup_prefix: "flynn".to_owned(),
            init_binary: PathBuf::from("/usr/local/bin/flynn-init"),
            partitions: parse_partitions(DEFAULT_PARTITIONS).unwrap_or_default(),
            max_job_concurrency: 4,
            peer_ips: Vec::new(),
            tags: BTreeMap::new(),
            flags: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            resurrect: true,
            background_services: Vec::new(),
            capacity: None,
            defaults: WireDefaults::default(),
            restart: RestartRule::default(),
            stop_grace: Duration::from_secs(30),
            log_file_bytes: Bytes(100_000_000),
            log_total_bytes: Bytes::gib(4),
            isolation: Isolation {
                userns: "full".to_owned(),
                layers: "squashfs".to_owned(),
                scratch: "image".to_owned(),
                reason: String::new(),
            },
        }
    }

    /// What jobs may reserve: as configured, else the machine's memory without a tenth for the
    /// platform itself, and its processors.
    pub(crate) fn capacity(&self) -> Reservation {
        self.capacity.unwrap_or_else(|| {
            let info = rustix::system::sysinfo();
            let memory = info.totalram as u64 * u64::from(info.mem_unit.max(1));
            let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
            Reservation { memory: Bytes(memory / 10 * 9), cpu: Millicpu(cores * 1000) }
        })
    }
}

/// Why a partition list is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionsError {
    /// Not `name=cpu_shares:N`.
    #[error("invalid partition spec {0:?}: write name=cpu_shares:N with N of at least 2")]
    Spec(String),
    /// One of the three is not there.
    #[error("missing partition {0}: user, system and background are needed")]
    Missing(Partition),
}

/// Reads `name=cpu_shares:N` items separated by blanks.
pub fn parse_partitions(text: &str) -> Result<BTreeMap<Partition, u64>, PartitionsError> {
    let mut partitions = BTreeMap::new();
    for item in text.split_whitespace() {
        let wrong = || PartitionsError::Spec(item.to_owned());
        let (name, shares) = item.split_once("=cpu_shares:").ok_or_else(wrong)?;
        let shares: u64 = shares.parse().ok().filter(|shares| *shares >= 2).ok_or_else(wrong)?;
        partitions.insert(name.parse().map_err(|_| wrong())?, shares);
    }
    match Partition::ALL.into_iter().find(|partition| !partitions.contains_key(partition)) {
        Some(missing) => Err(PartitionsError::Missing(missing)),
        None => Ok(partitions),
    }
}

/// Reads `k=v,k` tags; a bare key means `true`.
pub fn parse_tags(text: &str) -> BTreeMap<String, String> {
    let items = text.split(',').filter(|item| !item.is_empty());
    items
        .map(|item| match item.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (item.to_owned(), "true".to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_parse_as_in_the_original() {
        for (text, want) in [
            ("", vec![]),
            ("foo", vec![("foo", "true")]),
            ("foo,", vec![("foo", "true")]),
            ("foo=", vec![("foo", "")]),
            ("foo=bar=baz", vec![("foo", "bar=baz")]),
            ("foo=bar,baz=,", vec![("foo", "bar"), ("baz", "")]),
        ] {
            let want = want.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            assert_eq!(parse_tags(text), want, "{text}");
        }
    }

    #[test]
    fn all_three_partitions_are_needed() {
        assert_eq!(parse_partitions(DEFAULT_PARTITIONS).unwrap()[&Partition::User], 8192);
        for bad in
            ["", "user=cpu_shares:1", "user=cpu_shares:4 system=cpu_shares:4", "x=cpu_shares:4"]
        {
            assert!(parse_partitions(bad).is_err(), "{bad}");
        }
    }
}
