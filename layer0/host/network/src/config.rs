//! What a host's network is called and which ports mean what, with all defaults in one place.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::names::{BridgeName, TableName, VethPrefix};
use crate::overlay::Range;
use crate::ruleset::PortRange;

/// Names, addresses and ports. Two hosts in one network namespace need different names.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the durable state (`network.json`) and the pinned namespaces (`netns/`) are.
    pub data_dir: PathBuf,
    /// This host's address for other hosts and for users.
    pub external_ip: Ipv4Addr,
    /// The bridge.
    pub bridge: BridgeName,
    /// The firewall's table.
    pub table: TableName,
    /// What names of job links begin with.
    pub veth_prefix: VethPrefix,
    /// All hosts' subnets together, until the host is told ([`Network::set_overlay`]): traffic inside is
    /// not masqueraded, and user jobs reach only what their host can tell is theirs.
    ///
    /// [`Network::set_overlay`]: crate::Network::set_overlay
    pub overlay_network: Option<Range>,
    /// Ports of the router, on the address of every host.
    pub router_ports: Vec<PortRange>,
    /// TCP ports of system jobs that user jobs may reach.
    pub database_ports: BTreeSet<u16>,
    /// TCP ports of this host that only it, known hosts and system jobs may reach.
    pub guarded_ports: BTreeSet<u16>,
    /// UDP ports of this host that only it and known hosts may reach: that of the tunnel between hosts.
    pub guarded_udp_ports: BTreeSet<u16>,
    /// How long an address rests before another app gets it: the time after which every router has
    /// surely dropped it.
    pub quarantine: Duration,
    /// Whether packets between jobs may take the short way, where the kernel has one.
    pub fast_path: bool,
    /// The nft program; a bare name is looked for in the system's directories.
    pub nft: PathBuf,
}

impl Config {
    /// The defaults of a host with the given external address.
    pub fn new(data_dir: impl Into<PathBuf>, external_ip: Ipv4Addr) -> Self {
        let name = "the defaults below are valid names";
        Self {
            data_dir: data_dir.into(),
            external_ip,
            bridge: "flynnbr0".parse().expect(name),
            table: "flynn".parse().expect(name),
            veth_prefix: "flv".parse().expect(name),
            overlay_network: Range::around(Ipv4Addr::new(100, 100, 0, 0), 16),
            router_ports: vec![
                PortRange::one(80),
                PortRange::one(443),
                PortRange { first: 3000, last: 3500 },
            ],
            database_ports: BTreeSet::from([3306, 5432, 6379, 27017]),
            guarded_ports: BTreeSet::from([1111, 1113, 5002]),
            guarded_udp_ports: BTreeSet::from([8472]),
            quarantine: Duration::from_secs(60),
            fast_path: true,
            nft: PathBuf::from("nft"),
        }
    }
}
