//! What a host's kernel must know to reach all subnets: a value that is compared with what it knows,
//! never a list of steps.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::block::Block;
use crate::lease::{Backend, BackendKind, Leases, Mac};

/// A route to another host's subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The subnet.
    pub to: Block,
    /// The next hop.
    pub via: Ipv4Addr,
    /// Whether the next hop is on the link although no address says so.
    pub onlink: bool,
}

/// A permanent ARP entry of the tunnel device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The next hop.
    pub ip: Ipv4Addr,
    /// Its tunnel device.
    pub mac: Mac,
}

/// A permanent forwarding entry of the tunnel device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forwarding {
    /// The other host's tunnel device.
    pub mac: Mac,
    /// The other host.
    pub host: Ipv4Addr,
}

/// Everything the kernel should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Routes.
    pub routes: BTreeSet<Route>,
    /// ARP entries.
    pub neighbours: BTreeSet<Neighbour>,
    /// Forwarding entries.
    pub forwarding: BTreeSet<Forwarding>,
}

/// What to add and what to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedChange {
    /// What is missing.
    pub add: Wanted,
    /// What is too much. To be removed first: a subnet may have moved to another host.
    pub remove: Wanted,
}

impl Wanted {
    /// What a host of the given kind needs for these leases. Its own lease is no peer, nor are those
    /// of another kind.
    pub fn of(leases: &Leases, own_ip: Ipv4Addr, kind: BackendKind) -> Self {
        let mut wanted = Self::default();
        let peers = leases
            .iter()
            .filter(|(_, lease)| lease.public_ip != own_ip && lease.backend.kind() == kind);
        for (subnet, lease) in peers {
            match lease.backend {
                Backend::Alloc => {}
                Backend::HostGw => {
                    wanted.routes.insert(Route {
                        to: *subnet,
                        via: lease.public_ip,
                        onlink: false,
                    });
                }
                Backend::Vxlan(mac) => {
                    let hop = subnet.first();
                    wanted.routes.insert(Route { to: *subnet, via: hop, onlink: true });
                    wanted.neighbours.insert(Neighbour { ip: hop, mac });
                    wanted.forwarding.insert(Forwarding { mac, host: lease.public_ip });
                }
            }
        }
        wanted
    }

    /// How to get from `self` to `target`.
    pub fn change_to(&self, target: &Self) -> WantedChange {
        WantedChange { add: target.without(self), remove: self.without(target) }
    }

    fn without(&self, other: &Self) -> Self {
        Self {
            routes: &self.routes - &other.routes,
            neighbours: &self.neighbours - &other.neighbours,
            forwarding: &self.forwarding - &other.forwarding,
        }
    }
}

/// The address of a tunnel device: the subnet's first one, with the whole network's length, so that
/// every host's device is on its link.
pub fn device_address(network: Block, subnet: Block) -> (Ipv4Addr, u8) {
    (subnet.first(), network.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Lease;
    use proptest::prelude::*;

    fn host(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, number)
    }

    fn vxlan(number: u8) -> Lease {
        let backend = Backend::Vxlan(Mac([2, 0, 0, 0, 0, number]));
        Lease { public_ip: host(number), http_port: 5002, backend, seen: None }
    }

    fn subnet(number: u8) -> Block {
        format!("100.100.{number}.0/24").parse().unwrap()
    }

    #[test]
    fn a_vxlan_peer_needs_a_route_a_neighbour_and_a_forwarding_entry() {
        let leases = Leases::from([(subnet(12), vxlan(10)), (subnet(77), vxlan(11))]);
        let wanted = Wanted::of(&leases, host(10), BackendKind::Vxlan);
        let (hop, mac) = (Ipv4Addr::new(100, 100, 77, 0), Mac([2, 0, 0, 0, 0, 11]));
        assert_eq!(wanted.routes, [Route { to: subnet(77), via: hop, onlink: true }].into());
        assert_eq!(wanted.neighbours, [Neighbour { ip: hop, mac }].into());
        assert_eq!(wanted.forwarding, [Forwarding { mac, host: host(11) }].into());
        let network = "100.100.0.0/16".parse().unwrap();
        assert_eq!(device_address(network, subnet(12)), (Ipv4Addr::new(100, 100, 12, 0), 16));
    }

    #[test]
    fn host_gw_needs_routes_only_and_alloc_nothing() {
        let lease = |number, backend| Lease {
            public_ip: host(number),
            http_port: 5002,
            backend,
            seen: None,
        };
        let leases = Leases::from([
            (subnet(1), lease(1, Backend::HostGw)),
            (subnet(2), lease(2, Backend::HostGw)),
            (subnet(3), lease(3, Backend::Alloc)),
        ]);
        let wanted = Wanted::of(&leases, host(1), BackendKind::HostGw);
        assert_eq!(wanted.routes, [Route { to: subnet(2), via: host(2), onlink: false }].into());
        assert!(wanted.neighbours.is_empty() && wanted.forwarding.is_empty());
        assert_eq!(Wanted::of(&leases, host(1), BackendKind::Alloc), Wanted::default());
    }

    fn some_leases() -> impl Strategy<Value = Leases> {
        prop::collection::btree_map((0_u8..20).prop_map(subnet), (0_u8..20).prop_map(vxlan), 0..10)
    }

    proptest! {
        #[test]
        fn applying_a_change_gives_the_target(before in some_leases(), after in some_leases()) {
            let view = |leases| Wanted::of(leases, host(0), BackendKind::Vxlan);
            let (mut now, target) = (view(&before), view(&after));
            let change = now.change_to(&target);
            now = now.without(&change.remove);
            now.routes.extend(&change.add.routes);
            now.neighbours.extend(&change.add.neighbours);
            now.forwarding.extend(&change.add.forwarding);
            prop_assert_eq!(&now, &target);
            prop_assert_eq!(now.change_to(&target), WantedChange::default());
            prop_assert!(target.routes.iter().all(|route| after[&route.to].public_ip != host(0)));
        }
    }
}
