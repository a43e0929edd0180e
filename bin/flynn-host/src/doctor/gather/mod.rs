//! Asks the cluster. Whatever does not answer in a few seconds is taken as not answering; nothing is asked
//! twice, nothing is changed, and any part may be missing.
//!
//! Who there is to ask is found on the way: this machine's daemon, its configuration and discoverd name
//! hosts, and each host that answers names the ones it knows.

mod discovery;
mod hosts;
mod platform;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use discoverd_api::{Instance, Servers};
use futures_util::StreamExt as _;
use kit_http::{Client, ClientError};

use self::discovery::ServerSeen;
use self::hosts::HostSeen;
use super::facts::{Discovery, Facts, HostFacts, Server};

/// How long a connection and an answer may take.
const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(3);
/// Whom those name that were named by those that were named: no cluster is deeper.
const ROUNDS: usize = 4;
/// How many are asked at a time.
const AT_ONCE: usize = 64;

/// Whom to ask first, and on which ports.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// This machine's daemon, or the one that was named.
    pub(crate) local: String,
    /// Hosts that the configuration names; the daemon knows better, where it answers.
    pub(crate) configured: BTreeSet<Ipv4Addr>,
    /// Hosts that may be there.
    pub(crate) hosts: BTreeSet<Ipv4Addr>,
    /// Servers of discoverd that may be there.
    pub(crate) discoverd: Servers,
    pub(crate) host_port: u16,
    pub(crate) discoverd_port: u16,
}

/// What was gathered on the way.
#[derive(Default)]
struct Found {
    hosts: BTreeMap<Ipv4Addr, HostSeen>,
    servers: BTreeMap<Ipv4Addr, Option<ServerSeen>>,
}

/// Everything that can be seen from here.
pub(crate) async fn gather(start: &Start) -> Facts {
    let mut known = start.hosts.clone();
    let of_daemon = hosts::of_daemon(&start.local).await;
    known.extend(if of_daemon.is_empty() {
        start.configured.iter().copied().collect()
    } else {
        of_daemon
    });
    known.extend(discovery::hosts_of_first(&start.discoverd).await);
    let mut found = Found::default();
    for _ in 0..ROUNDS {
        if !round(start, &mut known, &mut found).await {
            break;
        }
    }
    facts(start, known, found).await
}

/// Asks whoever is new; says whether there was anybody.
async fn round(start: &Start, known: &mut BTreeSet<Ipv4Addr>, found: &mut Found) -> bool {
    let named = found.servers.values().flatten().flat_map(|server| server.answer.everybody());
    let servers: BTreeSet<_> = named.chain(known.iter().copied()).collect();
    let new_servers: Vec<_> =
        servers.into_iter().filter(|ip| !found.servers.contains_key(ip)).collect();
    let new_hosts: Vec<_> =
        known.iter().copied().filter(|ip| !found.hosts.contains_key(ip)).collect();
    if new_servers.is_empty() && new_hosts.is_empty() {
        return false;
    }
    let hosts = futures_util::stream::iter(new_hosts)
        .map(async |ip| (ip, hosts::ask(ip, start.host_port).await))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>();
    let servers = futures_util::stream::iter(new_servers)
        .map(async |ip| (ip, discovery::ask(ip, start.discoverd_port).await))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>();
    let (hosts, servers) = futures_util::future::join(hosts, servers).await;
    for (ip, host) in hosts {
        known.extend(host.iter().flat_map(|host| host.knows()));
        found.hosts.insert(ip, host);
    }
    for (ip, server) in servers {
        let listed = server.iter().flat_map(|server| &server.hosts);
        known.extend(listed.filter_map(ip_of));
        found.servers.insert(ip, server);
    }
    true
}

async fn facts(start: &Start, known: BTreeSet<Ipv4Addr>, mut found: Found) -> Facts {
    let servers: Vec<_> = found
        .servers
        .iter()
        .map(|(ip, seen)| Server { ip: *ip, answer: seen.as_ref().map(|seen| seen.answer.clone()) })
        .collect();
    let mut facts = Facts { discovery: Discovery { servers, leases: None }, ..Facts::default() };
    let best = facts.discovery.best().map(|(ip, _)| ip);
    let listed = best.and_then(|ip| found.servers.get(&ip)?.as_ref());
    let listed: Vec<Instance> = listed.map(|seen| seen.hosts.clone()).unwrap_or_default();
    let ids: BTreeMap<Ipv4Addr, Option<String>> = listed
        .iter()
        .filter_map(|instance| Some((ip_of(instance)?, instance.meta.get("id").cloned())))
        .collect();
    let key = found.hosts.values().flatten().find_map(|host| host.controller_key.clone());
    for ip in known {
        let Some(seen) = found.hosts.remove(&ip) else { continue };
        let own = seen.as_ref().ok().map(|host| host.id.clone());
        let id = own.or_else(|| ids.get(&ip).cloned().flatten());
        let answer = seen.map(|host| host.answer);
        facts.hosts.push(HostFacts { ip, id, registered: ids.contains_key(&ip), answer });
    }
    if let Some(ip) = best {
        let registry = registry(ip, start.discoverd_port);
        platform::add(&mut facts, &registry, key).await;
    }
    facts
}

/// A client of one discoverd that asks once and briefly.
fn registry(ip: Ipv4Addr, port: u16) -> Result<Client, ClientError> {
    brief(&format!("http://{ip}:{port}"))
}

/// A client that waits for nobody.
fn brief(url: &str) -> Result<Client, ClientError> {
    Client::builder(url).connect_timeout(CONNECT).request_timeout(ANSWER).build()
}

/// The host part of an instance's address, where it is an IPv4 address.
fn ip_of(instance: &Instance) -> Option<Ipv4Addr> {
    ip_in(&instance.addr)
}

/// The address in `ip:port` or a URL.
fn ip_in(addr: &str) -> Option<Ipv4Addr> {
    let addr = addr.trim_start_matches("http://").trim_end_matches('/');
    addr.rsplit_once(':').map_or(addr, |(ip, _)| ip).parse().ok()
}

/// An error with all its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
