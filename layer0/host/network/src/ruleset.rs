//! The firewall as text for `nft`. Pure: names are checked types, everything else is a number or an
//! address, so nothing of what a job or a person wrote gets into the language.
//!
//! Two tables of one name, because ARP exists only in family netdev:
//! - `netdev`: one ingress chain per job link lets pass only IPv4 and ARP that carry the job's own
//!   hardware address and IP address. All else (other sources, IPv6, VLAN tags) ends there.
//! - `inet`: who may reach whom, by sets of addresses that are filled as jobs come and go. Packets
//!   between two jobs pass it too: ports are isolated and the bridge answers ARP for everybody, so
//!   these packets are routed.
//!
//! A packet to another host's job carries in its DSCP field (RFC 2474) whose it is: the sending host
//! writes it, the receiving one, which alone knows what its jobs are, decides by it. Both trust each
//! other and nobody else: packets of the tunnel are taken from known hosts only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};
use std::net::Ipv4Addr;

use kit_ids::JobId;

use crate::addresses::Lease;
use crate::config::Config;
use crate::job::Partition;
use crate::link::{job_mac, veth_name};
use crate::overlay::{Overlay, Way};
use crate::subnet::Subnet;

/// TCP ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// A single port.
    pub fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }
}

impl Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Everything at once: replaces both tables in one transaction.
pub(crate) fn whole(
    config: &Config,
    subnet: Option<Subnet>,
    overlay: Option<&Overlay>,
    known_hosts: &BTreeSet<Ipv4Addr>,
    leases: &BTreeMap<JobId, Lease>,
) -> String {
    let mut text = remove(config);
    let table = &config.table;
    let _ = writeln!(text, "table inet {table} {{");
    text += &sets(config, overlay, known_hosts, leases);
    text += GUARD;
    match subnet {
        Some(subnet) => {
            let crossing = Crossing::of(config, subnet, overlay);
            text += &bridge_chains(config, subnet, &crossing);
            text += &crossing.chains();
        }
        None => text += GUARD_ONLY_INPUT,
    }
    let _ = writeln!(text, "}}\ntable netdev {table} {{\n}}");
    for lease in leases.values() {
        text += &pin(config, lease.ip);
    }
    text
}

/// Removes both tables, whether they exist or not.
pub(crate) fn remove(config: &Config) -> String {
    let table = &config.table;
    ["inet", "netdev"]
        .map(|family| format!("table {family} {table}\ndelete table {family} {table}\n"))
        .concat()
}

/// Adds one job, in the place of what there may be of it. What is taken out costs the kernel a grace
/// period of some 10 ms.
pub(crate) fn replace(config: &Config, lease: &Lease) -> String {
    detach(config, lease) + &attach(config, lease)
}

/// Adds one job, of which there is nothing.
pub(crate) fn attach(config: &Config, lease: &Lease) -> String {
    let table = &config.table;
    let mut text = format!("add element inet {table} {} {{ {} }}\n", lease.partition, lease.ip);
    for element in allowed(lease) {
        let _ = writeln!(text, "add element inet {table} allowed {{ {element} }}");
    }
    for element in for_builds(lease) {
        let _ = writeln!(text, "add element inet {table} for_builds {{ {element} }}");
    }
    text + &pin(config, lease.ip)
}

/// Takes one job out. Each thing is added first, so that it may be missing already.
pub(crate) fn detach(config: &Config, lease: &Lease) -> String {
    let (table, veth) = (&config.table, veth_name(&config.veth_prefix, lease.ip));
    let mut text = String::new();
    let mut elements = vec![(lease.partition.as_str(), lease.ip.to_string())];
    elements.extend(allowed(lease).into_iter().map(|element| ("allowed", element)));
    elements.extend(for_builds(lease).into_iter().map(|element| ("for_builds", element)));
    for (set, element) in elements {
        for verb in ["add", "delete"] {
            let _ = writeln!(text, "{verb} element inet {table} {set} {{ {element} }}");
        }
    }
    for verb in ["add", "flush", "delete"] {
        let _ = writeln!(text, "{verb} chain netdev {table} {veth}");
    }
    text
}

/// Replaces what a job may reach beyond its partition.
pub(crate) fn allow(config: &Config, before: &Lease, after: &Lease) -> String {
    let table = &config.table;
    let mut text = String::new();
    for element in allowed(before) {
        for verb in ["add", "delete"] {
            let _ = writeln!(text, "{verb} element inet {table} allowed {{ {element} }}");
        }
    }
    for element in allowed(after) {
        let _ = writeln!(text, "add element inet {table} allowed {{ {element} }}");
    }
    text
}

/// Replaces the addresses of known hosts.
pub(crate) fn known_hosts(config: &Config, hosts: &BTreeSet<Ipv4Addr>) -> String {
    let table = &config.table;
    let mut text = format!("flush set inet {table} known_hosts\n");
    if !hosts.is_empty() {
        let _ = writeln!(text, "add element inet {table} known_hosts {{ {} }}", list(hosts));
    }
    text
}

/// The chain that holds a job to its own addresses.
fn pin(config: &Config, ip: Ipv4Addr) -> String {
    let (table, veth, mac) = (&config.table, veth_name(&config.veth_prefix, ip), job_mac(ip));
    format!(
        "table netdev {table} {{
  chain {veth} {{
    type filter hook ingress device \"{veth}\" priority -300; policy drop;
    ether saddr {mac} ip saddr {ip} accept
    ether saddr {mac} arp saddr ether {mac} arp saddr ip {ip} accept
  }}
}}
"
    )
}

fn sets(
    config: &Config,
    overlay: Option<&Overlay>,
    known_hosts: &BTreeSet<Ipv4Addr>,
    leases: &BTreeMap<JobId, Lease>,
) -> String {
    let mut text = String::new();
    for partition in Partition::ALL {
        let of = leases.values().filter(|lease| lease.partition == partition);
        text += &set(partition.as_str(), "ipv4_addr", "", &list(of.map(|lease| lease.ip)));
    }
    let allowed = list(leases.values().flat_map(allowed));
    text += &set("allowed", "ipv4_addr . ipv4_addr . inet_service", "", &allowed);
    let builds = list(leases.values().flat_map(for_builds));
    text += &set("for_builds", "ipv4_addr . inet_service", "", &builds);
    text += &set("known_hosts", "ipv4_addr", "", &list(known_hosts));
    text += &set("guarded_ports", "inet_service", "", &list(&config.guarded_ports));
    let mut udp = config.guarded_udp_ports.clone();
    if let Some(Way::Tunnel { port, .. }) = overlay.map(|overlay| overlay.way) {
        udp.insert(port);
    }
    text += &set("guarded_udp_ports", "inet_service", "", &list(&udp));
    text += &set("database_ports", "inet_service", "", &list(&config.database_ports));
    let ranges = "flags interval; auto-merge;";
    text + &set("router_ports", "inet_service", ranges, &list(&config.router_ports))
}

fn set(name: &str, of: &str, flags: &str, elements: &str) -> String {
    let elements =
        if elements.is_empty() { String::new() } else { format!("elements = {{ {elements} }};") };
    format!("  set {name} {{ type {of}; {flags} {elements} }}\n")
}

fn allowed(lease: &Lease) -> Vec<String> {
    let element = |to: &crate::job::Endpoint| format!("{} . {} . {}", lease.ip, to.ip, to.port);
    lease.allow.iter().map(element).collect()
}

fn for_builds(lease: &Lease) -> Vec<String> {
    lease.for_builds.iter().map(|port| format!("{} . {port}", lease.ip)).collect()
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// Ports of the daemons, seen from outside the bridge.
const GUARD: &str = "
  chain guard {
    ct state established,related accept
    ip saddr @known_hosts accept
    drop
  }
";

/// The input chain of a host that has no subnet yet.
const GUARD_ONLY_INPUT: &str = "
  chain input {
    type filter hook input priority filter; policy accept;
    iifname \"lo\" accept
    tcp dport @guarded_ports goto guard
  }
";

/// The chains of a host with a bridge. What is neither to nor from the bridge is left alone, but for
/// the guarded ports.
fn bridge_chains(config: &Config, subnet: Subnet, crossing: &Crossing) -> String {
    let (bridge, gateway, external) = (&config.bridge, subnet.bridge_ip(), config.external_ip);
    let block = subnet.block();
    let Crossing { inside, host, through, relay, out, .. } = crossing;
    format!(
        "
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname \"lo\" accept
    iifname \"{bridge}\" goto job_to_host
    udp dport @guarded_udp_ports ip saddr != @known_hosts drop
    {host}
    tcp dport @guarded_ports goto guard
    ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 drop
  }}

  chain job_to_host {{
    ct state vmap {{ established : accept, related : accept, invalid : drop }}
    ip saddr @system accept
    ip saddr . ip daddr . tcp dport @allowed accept
    ip saddr @user goto user_to_host
    ip saddr @background goto user_to_host
    drop
  }}

  chain user_to_host {{
    ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr {external} tcp dport @router_ports accept
    drop
  }}

  chain forward {{
    type filter hook forward priority filter; policy accept;
    {relay}
    iifname != \"{bridge}\" oifname != \"{bridge}\" accept
    ct state vmap {{ established : accept, related : accept, invalid : drop }}
    iifname \"{bridge}\" goto job_to_net
    {through}
    ip saddr @known_hosts accept
    drop
  }}

  chain job_to_net {{
    ip saddr @system accept
    ip saddr . ip daddr . tcp dport @allowed accept
    ip saddr @user goto user_to_net
    ip saddr @background ip daddr . tcp dport @for_builds accept
    ip saddr @background goto user_to_net
    drop
  }}

  chain user_to_net {{
    ip daddr @user accept
    ip daddr @system tcp dport @database_ports accept
    ip daddr @known_hosts tcp dport @router_ports accept
    ip daddr @known_hosts drop
    {out}
    ip daddr {inside} drop
    oifname \"{bridge}\" drop
    accept
  }}

  chain output {{
    type filter hook output priority filter; policy accept;
    oifname \"{bridge}\" icmp type redirect drop
  }}

  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {block} ip daddr != {inside} oifname != \"{bridge}\" masquerade
  }}
"
    )
}

/// The labels: DSCP values for whose a packet between hosts is. Of the codes for local use (RFC 2474, pool 3), such
/// that the kernel gives them the priority of ordinary packets.
pub(crate) mod label {
    /// System jobs, and hosts themselves.
    pub(crate) const SYSTEM: u8 = 9;
    /// Jobs of people.
    pub(crate) const USER: u8 = 17;
    /// Builds.
    pub(crate) const BACKGROUND: u8 = 25;
}

/// The rules about packets from host to host, as they stand in the chains of the bridge; empty where
/// there is no way between hosts.
struct Crossing {
    /// All hosts' subnets.
    inside: String,
    /// What tells a packet to another host's job, once it is routed.
    leaves: Option<String>,
    /// Input: from a job or host of elsewhere.
    host: String,
    /// Forward: from elsewhere to a job.
    through: String,
    /// Forward: nobody's packets are relayed into the tunnel or out of it.
    relay: String,
    /// Forward: from a user job to elsewhere, where its host decides.
    out: String,
}

impl Crossing {
    fn of(config: &Config, subnet: Subnet, overlay: Option<&Overlay>) -> Self {
        let (bridge, block) = (&config.bridge, subnet.block());
        let told = overlay.map(|overlay| overlay.network).or(config.overlay_network);
        let inside = told.map_or_else(|| block.clone(), |network| network.to_string());
        let (comes, leaves, relay) = match overlay.map(|overlay| (overlay.way, overlay.device())) {
            Some((Way::Tunnel { .. }, Some(device))) => (
                format!("iifname \"{device}\""),
                format!("oifname \"{device}\""),
                format!(
                    "iifname != \"{bridge}\" oifname \"{device}\" drop\n    \
                     iifname \"{device}\" oifname != \"{bridge}\" drop"
                ),
            ),
            Some((Way::Routes, _)) => (
                format!("iifname != \"{bridge}\" ip saddr {inside}"),
                format!("oifname != \"{bridge}\" ip saddr {inside} ip daddr {inside}"),
                String::new(),
            ),
            Some((Way::None | Way::Tunnel { .. }, _)) | None => return Self::nowhere(inside),
        };
        Self {
            host: format!("{comes} goto peer_to_host"),
            through: format!("{comes} goto peer_to_job"),
            out: format!("{leaves} accept"),
            leaves: Some(leaves),
            relay,
            inside,
        }
    }

    fn nowhere(inside: String) -> Self {
        let none = String::new;
        Self { inside, leaves: None, host: none(), through: none(), relay: none(), out: none() }
    }

    /// The chains of their own. Every packet is labelled, not only the first of a connection: the other
    /// host may have forgotten the connection.
    fn chains(&self) -> String {
        let Some(leaves) = &self.leaves else { return String::new() };
        let (system, user, background) = (label::SYSTEM, label::USER, label::BACKGROUND);
        format!(
            "
  chain peer_to_host {{
    ct state vmap {{ established : accept, related : accept, invalid : drop }}
    ip dscp {system} accept
    drop
  }}

  chain peer_to_job {{
    ip dscp {system} accept
    ip dscp {user} goto peer_user_to_job
    ip dscp {background} ip daddr . tcp dport @for_builds accept
    ip dscp {background} goto peer_user_to_job
    drop
  }}

  chain peer_user_to_job {{
    ip daddr @user accept
    ip daddr @system tcp dport @database_ports accept
    drop
  }}

  chain to_peers {{
    type filter hook postrouting priority filter; policy accept;
    {leaves} goto label
  }}

  chain label {{
    ip saddr @user ip dscp set {user} accept
    ip saddr @background ip dscp set {background} accept
    ip saddr @system ip dscp set {system} accept
    fib saddr type local ip dscp set {system} accept
    ip dscp set cs0
  }}
"
        )
    }
}
