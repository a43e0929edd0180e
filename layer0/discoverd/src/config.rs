//! What one server is told at its start; all defaults stand here.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use discoverd_registry::LeaseConfig;

use crate::raft::RaftTiming;

/// The settings of one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the log is kept.
    pub data_dir: PathBuf,
    /// Where HTTP and the other members are answered. Port 0 takes any.
    pub listen: Vec<SocketAddr>,
    /// The host part of the address under which others find this server; the port is that of the first
    /// address listened on.
    pub host: String,
    /// The first voters as `host:port`, whose ports are replaced by this server's; empty for a server
    /// alone. A server that is not among them joins their cluster without a vote. Once there is a log,
    /// its voters count.
    pub peers: Vec<String>,
    /// Where DNS is answered; None until the network of the host is known, or never.
    pub dns: Option<DnsConfig>,
    /// The host's status page, polled until it shows the network; then DNS is answered on the bridge.
    pub wait_net_dns: Option<String>,
    /// The cluster's own domain, which DNS answers with the router's addresses.
    pub domain: Option<ClusterDomain>,
    /// Who is told where this server is: a URL of the host.
    pub notify: Option<String>,
    /// The job this server runs in; empty outside of one.
    pub job_id: String,
    /// When instances expire.
    pub leases: LeaseConfig,
    /// The time constants of the log.
    pub raft: RaftTiming,
    /// How often leases are looked at.
    pub expiry_interval: Duration,
    /// How long a connection may send nothing before its first byte.
    pub first_byte: Duration,
}

/// Where DNS is answered and who is asked about other names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// UDP and TCP. Port 0 takes any, the same for both.
    pub listen: SocketAddr,
    /// Asked in turn.
    pub recursors: Vec<SocketAddr>,
}

/// A domain whose names are all the router's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDomain {
    /// Such as `flynn.localhost`.
    pub name: String,
    /// The router's addresses.
    pub addrs: Vec<IpAddr>,
}

impl Config {
    /// A server alone, with all defaults and no DNS.
    pub fn new(data_dir: impl Into<PathBuf>, listen: SocketAddr, host: &str) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: vec![listen],
            host: host.to_owned(),
            peers: Vec::new(),
            dns: None,
            wait_net_dns: None,
            domain: None,
            notify: None,
            job_id: String::new(),
            leases: LeaseConfig::default(),
            raft: RaftTiming::default(),
            expiry_interval: Duration::from_secs(1),
            first_byte: Duration::from_secs(30),
        }
    }

    /// The members' addresses with this server's port; this server alone where none are named.
    pub(crate) fn peers_with_port(&self, port: u16) -> Vec<String> {
        let host = |peer: &String| match peer.rsplit_once(':') {
            Some((host, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                host.to_owned()
            }
            Some(_) | None => peer.clone(),
        };
        let mut peers: Vec<_> = self.peers.iter().map(|peer| join(&host(peer), port)).collect();
        if peers.is_empty() {
            peers.push(join(&self.host, port));
        }
        peers
    }
}

/// `host:port`, with brackets round an IPv6 literal.
pub(crate) fn join(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_peer_list_are_replaced() {
        let mut config =
            Config::new("/nowhere", SocketAddr::from(([127, 0, 0, 1], 0)), "192.0.2.1");
        assert_eq!(config.peers_with_port(1111), ["192.0.2.1:1111"]);
        config.peers = ["192.0.2.1:9", "192.0.2.2", "[::1]:9"].map(str::to_owned).to_vec();
        assert_eq!(
            config.peers_with_port(1111),
            ["192.0.2.1:1111", "192.0.2.2:1111", "[::1]:1111"]
        );
    }
}
