//! The host itself over HTTP: status, network, discoverd, tags, free ports.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::State;
use discoverd_api::Servers;
use host_api::{
    Capacity, DiscoverdConfig, Draining, HostPort, HostResources, HostStatus, MemberChange,
    NetworkConfig, OverlayConfig, ResourceCheck,
};
use host_network::{NetworkError, Overlay, RangeError, Subnet, Way};
use kit_http::{ApiError, Json};
use serde_json::{Value, json};

use super::not_kept;
use crate::host::Host;
use crate::members;

/// MTU of a network that names none.
const DEFAULT_MTU: u32 = 1500;
/// Where a host's own name servers stand (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

pub(super) async fn status(State(host): State<Arc<Host>>) -> Json<HostStatus> {
    let told = host.settings.now();
    let (capacity, reserved, generation) = host.registry.reservations().await;
    let flags = Some(host.config.flags.clone()).filter(|flags| !flags.is_empty());
    Json(HostStatus {
        id: host.config.id.clone(),
        tags: told.tags.unwrap_or_else(|| host.config.tags.clone()),
        pid: std::process::id(),
        url: host.url.clone(),
        discoverd: told.discoverd,
        network: told.network,
        version: host.config.version.clone(),
        flags,
        resources: Some(HostResources {
            memory: Capacity { total: capacity.memory.0, reserved: reserved.memory.0 },
            cpu: Capacity { total: capacity.cpu.0, reserved: reserved.cpu.0 },
            generation,
        }),
        draining: told.draining,
        isolation: Some(host.config.isolation.clone()),
    })
}

pub(super) async fn network(
    State(host): State<Arc<Host>>,
    Json(config): Json<NetworkConfig>,
) -> Result<(), ApiError> {
    let subnet: Subnet =
        config.subnet.parse().map_err(|error| ApiError::validation("subnet", error))?;
    let mtu = if config.mtu == 0 { DEFAULT_MTU } else { config.mtu };
    let overlay = config.overlay.as_ref().map(overlay).transpose()?;
    // Who may come in, before there is anything to come in to.
    if let Some(overlay) = overlay {
        host.nets.set_overlay(overlay).await.map_err(|error| ApiError::internal(&error))?;
    }
    host.nets.configure(subnet, mtu).await.map_err(|error| match error {
        NetworkError::SubnetInUse { .. } => ApiError::conflict(error.to_string()),
        NetworkError::NotConfigured
        | NetworkError::NoAddress(_)
        | NetworkError::Firewall(_)
        | NetworkError::Link(_)
        | NetworkError::Io { .. } => ApiError::internal(&error),
    })?;
    let mut config = config;
    if config.resolvers.is_empty() {
        config.resolvers = own_resolvers(subnet);
    }
    let change = host.settings.change(|told| {
        let before = told.network.take().and_then(|network| network.overlay);
        config.overlay = config.overlay.or(before);
        told.network = Some(config);
    });
    let change = change.await;
    change.map_err(|error| not_kept(&error))
}

/// The way to other hosts, as the firewall knows it.
pub(crate) fn overlay(told: &OverlayConfig) -> Result<Overlay, ApiError> {
    let invalid = |field, error: &dyn std::fmt::Display| ApiError::validation(field, error);
    let network =
        told.network.parse().map_err(|error: RangeError| invalid("overlay.network", &error))?;
    let way = match told.backend.as_str() {
        "alloc" => Way::None,
        "host-gw" => Way::Routes,
        "vxlan" if (1..1 << 24).contains(&told.vni) && told.port > 0 => {
            Way::Tunnel { vni: told.vni, port: told.port }
        }
        "vxlan" => return Err(invalid("overlay.vni", &"must be 1 to 16777215, with a port")),
        other => return Err(invalid("overlay.backend", &format!("{other:?} is no backend"))),
    };
    Ok(Overlay { network, way, hosts: told.hosts.iter().copied().collect() })
}

/// What this host itself asks for names; discoverd, which shares its network, asks them for names of the
/// world (spec/host.md §4, DNS). Never the bridge: that is discoverd.
fn own_resolvers(subnet: Subnet) -> Vec<String> {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_else(|error| {
        tracing::warn!(%error, "{RESOLV_CONF} cannot be read: jobs will not find names of the world");
        String::new()
    });
    nameservers(&text, subnet)
}

/// The name servers of a resolv.conf but those of the subnet.
fn nameservers(text: &str, subnet: Subnet) -> Vec<String> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    let outside = servers.filter(|server| match server {
        IpAddr::V4(ip) => !subnet.contains(*ip),
        IpAddr::V6(_) => true,
    });
    outside.map(|server| server.to_string()).collect()
}

/// What is not told stays as it was: a host that forgot where discoverd is could start no job.
pub(super) async fn discoverd(
    State(host): State<Arc<Host>>,
    Json(config): Json<DiscoverdConfig>,
) -> Result<(), ApiError> {
    if !config.url.is_empty() {
        let client = discoverd_api::Client::new(&Servers::parse(&config.url));
        client.map_err(|error| ApiError::validation("url", error))?;
    }
    let change = host.settings.change(|told| {
        let known = told.discoverd.get_or_insert_default();
        for (known, new) in [
            (&mut known.url, config.url),
            (&mut known.dns, config.dns),
            (&mut known.job_id, config.job_id),
        ] {
            if !new.is_empty() {
                *known = new;
            }
        }
    });
    change.await.map_err(|error| not_kept(&error))
}

/// The status shows what was posted; discoverd shows all of it merged, without empty values.
pub(super) async fn tags(
    State(host): State<Arc<Host>>,
    Json(tags): Json<BTreeMap<String, String>>,
) -> Result<(), ApiError> {
    let configured = host.config.tags.clone();
    let change = host.settings.change(move |told| {
        let mut published = told.published_tags.take().unwrap_or(configured);
        published.extend(tags.clone());
        published.retain(|_, value| !value.is_empty());
        told.published_tags = Some(published);
        told.tags = Some(tags);
    });
    change.await.map_err(|error| not_kept(&error))
}

/// A host that wants to join is admitted before discoverd can know it; one that left is forgotten.
pub(super) async fn members(
    State(host): State<Arc<Host>>,
    Json(change): Json<MemberChange>,
) -> Result<(), ApiError> {
    members::change(&host, change).await.map_err(|error| not_kept(&error))
}

/// Discoverd shows it as `shutdown=true`, which schedulers take as the word to move jobs away.
pub(super) async fn draining(
    State(host): State<Arc<Host>>,
    Json(order): Json<Draining>,
) -> Result<(), ApiError> {
    let change = host.settings.change(|told| told.draining = order.draining).await;
    change.map_err(|error| not_kept(&error))
}

/// Tries every port; what is taken is the detail of the conflict.
pub(super) async fn resource_check(
    Json(check): Json<ResourceCheck>,
) -> Result<Json<Value>, ApiError> {
    let mut taken = Vec::new();
    for wanted in check.ports {
        let proto = if wanted.proto.is_empty() { "tcp".to_owned() } else { wanted.proto };
        if !is_free(wanted.port, &proto).await? {
            taken.push(HostPort { port: wanted.port, proto });
        }
    }
    if taken.is_empty() {
        return Ok(Json(json!({})));
    }
    let detail = json!(ResourceCheck { ports: taken });
    Err(ApiError::conflict("Conflicting resources found").with_detail(detail))
}

async fn is_free(port: u16, proto: &str) -> Result<bool, ApiError> {
    let everywhere = (Ipv4Addr::UNSPECIFIED, port);
    match proto {
        "tcp" => Ok(tokio::net::TcpListener::bind(everywhere).await.is_ok()),
        "udp" => Ok(tokio::net::UdpSocket::bind(everywhere).await.is_ok()),
        other => Err(ApiError::validation("proto", format!("{other:?} must be tcp or udp"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_the_host_are_taken_but_never_the_bridge() {
        let subnet: Subnet = "100.100.5.1/24".parse().unwrap();
        let text = "search example.com\n# nameserver 192.0.2.9\nnameserver 192.0.2.1\n\
                    nameserver 100.100.5.1\nnameserver\tfd00::1\nnameserver nonsense\n\
                    nameserver 127.0.0.53 # local\n";
        assert_eq!(nameservers(text, subnet), ["192.0.2.1", "fd00::1", "127.0.0.53"]);
        assert!(nameservers("", subnet).is_empty());
    }
}
