//! Where answers come from: the registry for services, the configuration for the cluster's domain.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use discoverd_registry::Instance;
use hickory_proto::rr::Name;
use kit_clock::Clock;

use super::name::Wanted;
use crate::config::ClusterDomain;
use crate::state::State;

/// What this server answers itself.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    state: Arc<State>,
    clock: Arc<dyn Clock>,
    domain: Option<Arc<(Name, Vec<IpAddr>)>>,
}

/// An instance as an answer shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) id: String,
    /// None for an instance registered by a name.
    pub(super) ip: Option<IpAddr>,
    pub(super) port: u16,
}

/// What the registry knows of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) service: String,
    pub(super) endpoints: Vec<Endpoint>,
    /// Whether the answers name their instance, or repeat the name that was asked.
    pub(super) many: bool,
}

impl Zone {
    pub(crate) fn new(
        state: Arc<State>,
        clock: Arc<dyn Clock>,
        domain: Option<ClusterDomain>,
    ) -> Self {
        let domain = domain.and_then(|domain| {
            let mut name = Name::from_ascii(&domain.name)
                .inspect_err(|error| tracing::error!(domain = %domain.name, %error, "not a domain"))
                .ok()?;
            name.set_fqdn(true);
            Some(Arc::new((name, domain.addrs)))
        });
        Self { state, clock, domain }
    }

    /// The instances behind a name; None for one that does not exist.
    pub(super) fn find(&self, wanted: &Wanted) -> Option<Found> {
        let one = |service: &str, instance: &Instance| Found {
            service: service.to_owned(),
            endpoints: endpoint(instance).into_iter().collect(),
            many: false,
        };
        self.state.read(|registry| match wanted {
            Wanted::Service { service, proto } => {
                let all: Vec<_> = registry.instances(service).collect();
                if all.is_empty() {
                    return None;
                }
                let fits = |i: &&&Arc<Instance>| {
                    proto.as_ref().is_none_or(|proto| i.registration.proto == *proto)
                };
                let endpoints = all.iter().filter(fits).filter_map(|i| endpoint(i)).collect();
                Some(Found { service: service.clone(), endpoints, many: true })
            }
            Wanted::Leader { service } => registry.leader(service).map(|found| one(service, found)),
            Wanted::Instance { service, id } => {
                registry.instance(service, id).map(|found| one(service, found))
            }
            Wanted::Nothing => None,
        })
    }

    /// The router's addresses, for a name of the cluster's domain, with that domain's name.
    pub(super) fn router(&self, name: &Name) -> Option<(&Name, &[IpAddr])> {
        let (domain, addrs) = &**self.domain.as_ref()?;
        domain.zone_of(name).then_some((domain, addrs))
    }

    /// Seconds since 1970, the serial of the zone.
    pub(super) fn serial(&self) -> u32 {
        u32::try_from(self.clock.wall().since_epoch().as_secs()).unwrap_or(u32::MAX)
    }
}

/// None for an address whose port is no number: nothing can be answered about it.
fn endpoint(instance: &Instance) -> Option<Endpoint> {
    let addr = &instance.registration.addr;
    let id = instance.id.to_string();
    if let Ok(addr) = addr.parse::<SocketAddr>() {
        return Some(Endpoint { id, ip: Some(addr.ip()), port: addr.port() });
    }
    let port = addr.rsplit_once(':')?.1.parse().ok()?;
    Some(Endpoint { id, ip: None, port })
}
