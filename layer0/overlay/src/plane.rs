//! What follows from an agreement on the leases: for this host's kernel, and for its daemon.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use host_api::OverlayConfig;
use netplan::{BackendKind, Block, Route, Wanted, device_address};

use crate::entries::Target;
use crate::registry::{Registry, RegistryError};
use crate::tunnel::{OVERHEAD, Tunnel};

/// The way between hosts as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plane {
    /// For the kernel.
    pub(crate) target: Target,
    /// For the daemon, which keeps the rules.
    pub(crate) overlay: OverlayConfig,
}

impl Plane {
    /// What `registry` means for the host `own_ip` with the subnet `subnet`, whose jobs' packets have at
    /// most `mtu` bytes.
    pub(crate) fn of(
        registry: &Registry,
        own_ip: Ipv4Addr,
        subnet: Block,
        mtu: u32,
    ) -> Result<Self, RegistryError> {
        let (kind, network) = (registry.backend()?, registry.config()?.network());
        let (tunnel, leases) = (registry.tunnel()?, registry.leases());
        let device = Tunnel {
            vni: tunnel.vni,
            port: tunnel.port,
            local: own_ip,
            mtu,
            address: device_address(network, subnet),
        };
        let has_tunnel = kind == BackendKind::Vxlan;
        let target = Target {
            vni: tunnel.vni,
            tunnel: has_tunnel.then_some(device),
            wanted: Wanted::of(&leases, own_ip, kind),
        };
        let hosts: BTreeSet<_> = leases.values().map(|lease| lease.public_ip).collect();
        let overlay = OverlayConfig {
            network: network.to_string(),
            backend: kind.as_str().to_owned(),
            vni: if has_tunnel { tunnel.vni } else { 0 },
            port: if has_tunnel { tunnel.port } else { 0 },
            hosts: hosts.into_iter().filter(|ip| !ip.is_unspecified()).collect(),
        };
        Ok(Self { target, overlay })
    }

    /// The tunnel device's address, if there is one.
    pub(crate) fn inside(&self) -> Option<Ipv4Addr> {
        self.target.tunnel.as_ref().map(|tunnel| tunnel.address.0)
    }
}

/// The backend of a cluster with so many hosts, which agreed on `agreed`, for a host that was told
/// `wish`. What is agreed on stays, but for one thing: `alloc` that nobody asked for ends with the second
/// host, for it connects nothing.
pub(crate) fn backend(agreed: BackendKind, wish: Option<BackendKind>, hosts: usize) -> BackendKind {
    match (agreed, wish) {
        (BackendKind::Alloc, None) if hosts > 1 => BackendKind::Vxlan,
        (BackendKind::Alloc | BackendKind::HostGw | BackendKind::Vxlan, _) => agreed,
    }
}

/// The largest packet of a job, where the link to other hosts has `uplink`. A host that may get a tunnel
/// leaves room for one before, so that no job has to be told when it does.
pub(crate) fn mtu(uplink: u32, agreed: BackendKind, wish: Option<BackendKind>) -> u32 {
    match (agreed, wish) {
        (BackendKind::Vxlan, _) | (BackendKind::Alloc, None) => uplink.saturating_sub(OVERHEAD),
        (BackendKind::HostGw, _) | (BackendKind::Alloc, Some(_)) => uplink,
    }
}

/// What a person must know of routes that the kernel does not take.
pub(crate) fn off_link(routes: &[Route]) -> Option<String> {
    let hosts: Vec<_> = routes.iter().map(|route| route.via.to_string()).collect();
    let list = hosts.join(", ");
    (!hosts.is_empty()).then(|| {
        format!(
            "host-gw: on no link of this host, so their jobs cannot be reached: {list}; a cluster across \
             links needs the backend vxlan"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netplan::{Backend, ConfigInput, Lease};

    fn host(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, number)
    }

    #[test]
    fn two_hosts_are_a_tunnel_each_and_both_known() {
        let network = ConfigInput::of("100.100.0.0/16".parse().unwrap());
        let mut registry = Registry::new(network, BackendKind::Vxlan);
        for number in [10, 11] {
            let backend = Backend::of(BackendKind::Vxlan, host(number));
            let lease = Lease { public_ip: host(number), http_port: 5002, backend, seen: None };
            let subnet = format!("100.100.{number}.0/24").parse().unwrap();
            registry.put(subnet, &lease).unwrap();
        }
        let subnet = "100.100.10.0/24".parse().unwrap();
        let plane = Plane::of(&registry, host(10), subnet, 1450).unwrap();
        assert_eq!(plane.overlay.hosts, [host(10), host(11)]);
        assert_eq!((plane.overlay.vni, plane.overlay.port), (1, 8472));
        assert_eq!(plane.target.wanted.routes.len(), 1);
        assert_eq!(plane.inside(), Some("100.100.10.0".parse().unwrap()));
        registry.set_backend(BackendKind::Alloc);
        let plane = Plane::of(&registry, host(10), subnet, 1450).unwrap();
        assert_eq!(plane.target, Target { vni: 1, ..Target::default() });
        assert_eq!(plane.inside(), None);
    }

    #[test]
    fn a_cluster_that_nobody_decided_for_gets_a_tunnel_with_its_second_host() {
        use BackendKind::{Alloc, HostGw, Vxlan};
        for (agreed, wish, hosts, backend_then, mtu_then) in [
            (Alloc, None, 1, Alloc, 1450),
            (Alloc, None, 2, Vxlan, 1450),
            (Alloc, Some(Alloc), 2, Alloc, 1500),
            (Vxlan, Some(Alloc), 1, Vxlan, 1450),
            (HostGw, None, 3, HostGw, 1500),
        ] {
            assert_eq!(backend(agreed, wish, hosts), backend_then);
            assert_eq!(mtu(1500, agreed, wish), mtu_then, "{agreed:?} {wish:?}");
        }
    }
}
