//! The leases as they stand in discoverd (spec/platform.md §1.2), and the way to and from netplan.
//!
//! What is not understood is kept: leases of backends this version does not know are written back
//! as they were, and their subnets count as taken.

use std::net::Ipv4Addr;
use std::time::Duration;

use kit_clock::Wall;
use netplan::{
    Backend, BackendError, BackendKind, Block, BlockError, Config, ConfigInput, Lease, Leases, Mac,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The metadata of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Registry {
    config: NetworkConfig,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    subnets: Map<String, Value>,
    /// Fields of other versions.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What is agreed on for all hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkConfig {
    network: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subnet_min: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subnet_max: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "is_unset")]
    subnet_len: Option<u8>,
    #[serde(default)]
    backend: BackendConfig,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct BackendConfig {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// One lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LeaseEntry {
    #[serde(rename = "PublicIP")]
    public_ip: Ipv4Addr,
    #[serde(rename = "HTTPPort", default)]
    http_port: String,
    #[serde(default)]
    backend_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backend_data: Option<Value>,
    /// Ours: when its host last wrote that it has it, seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<u64>,
}

/// What is agreed on for all tunnel devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunnelConfig {
    /// The number of the virtual network, and of the device.
    pub(crate) vni: u32,
    /// Where it is carried over UDP.
    pub(crate) port: u16,
}

/// What the original uses.
const DEFAULT_VNI: u32 = 1;
/// The kernel's own default, which stands for 0; older than the port of RFC 7348.
const DEFAULT_PORT: u16 = 8472;
/// RFC 7348: 24 bits.
const MAX_VNI: u32 = (1 << 24) - 1;

/// Why the leases in discoverd are of no use to this version.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Not the JSON it should be.
    #[error("the metadata of service flannel is not what the overlay writes")]
    Form(#[from] serde_json::Error),
    /// The network is none.
    #[error(transparent)]
    Network(#[from] BlockError),
    /// The bounds are impossible.
    #[error(transparent)]
    Config(#[from] netplan::ConfigError),
    /// Another backend was agreed on.
    #[error("the cluster's overlay cannot be used")]
    Backend(#[from] BackendError),
    /// Numbers that no device can have.
    #[error("the cluster's VNI or Port is out of range: at most {MAX_VNI} and 65535")]
    Tunnel,
}

impl Registry {
    /// The first host's metadata: no leases yet.
    pub(crate) fn new(input: ConfigInput, backend: BackendKind) -> Self {
        let kind = backend.as_str().to_owned();
        let config = NetworkConfig {
            network: input.network.to_string(),
            subnet_min: input.subnet_min,
            subnet_max: input.subnet_max,
            subnet_len: input.subnet_len,
            backend: BackendConfig { kind, rest: Map::new() },
            rest: Map::new(),
        };
        Self { config, subnets: Map::new(), rest: Map::new() }
    }

    /// What may be leased.
    pub(crate) fn config(&self) -> Result<Config, RegistryError> {
        let input = ConfigInput {
            network: self.config.network.parse()?,
            subnet_min: self.config.subnet_min,
            subnet_max: self.config.subnet_max,
            subnet_len: self.config.subnet_len.filter(|len| *len > 0),
        };
        Ok(Config::new(input)?)
    }

    /// How packets get from host to host.
    pub(crate) fn backend(&self) -> Result<BackendKind, RegistryError> {
        Ok(self.config.backend.kind.parse()?)
    }

    /// Agrees on another one.
    pub(crate) fn set_backend(&mut self, kind: BackendKind) {
        self.config.backend.kind = kind.as_str().to_owned();
    }

    /// What all tunnel devices have in common.
    pub(crate) fn tunnel(&self) -> Result<TunnelConfig, RegistryError> {
        let number = |name: &str| match self.config.backend.rest.get(name) {
            None | Some(Value::Null) => Ok(0),
            Some(value) => value.as_u64().ok_or(RegistryError::Tunnel),
        };
        let vni = u32::try_from(number("VNI")?).ok().filter(|vni| *vni <= MAX_VNI);
        let port = u16::try_from(number("Port")?).ok();
        let (Some(vni), Some(port)) = (vni, port) else { return Err(RegistryError::Tunnel) };
        Ok(TunnelConfig {
            vni: if vni == 0 { DEFAULT_VNI } else { vni },
            port: if port == 0 { DEFAULT_PORT } else { port },
        })
    }

    /// All leases. Entries that are not understood keep their subnet from being leased again.
    pub(crate) fn leases(&self) -> Leases {
        let taken = |value: &Value| {
            LeaseEntry::deserialize(value).ok().and_then(|entry| entry.lease()).unwrap_or(Lease {
                public_ip: Ipv4Addr::UNSPECIFIED,
                http_port: 0,
                backend: Backend::Alloc,
                seen: None,
            })
        };
        let subnets = self.subnets.iter();
        subnets
            .filter_map(|(key, value)| Some((key.parse::<Block>().ok()?, taken(value))))
            .collect()
    }

    /// Writes a lease; says whether anything changed.
    pub(crate) fn put(&mut self, subnet: Block, lease: &Lease) -> Result<bool, RegistryError> {
        let entry = serde_json::to_value(LeaseEntry::of(lease))?;
        let before = self.subnets.insert(subnet.key(), entry.clone());
        Ok(before != Some(entry))
    }
}

impl LeaseEntry {
    fn of(lease: &Lease) -> Self {
        let backend_data = match lease.backend {
            Backend::Alloc | Backend::HostGw => None,
            Backend::Vxlan(mac) => Some(serde_json::json!({ "VtepMAC": mac.to_string() })),
        };
        Self {
            public_ip: lease.public_ip,
            http_port: lease.http_port.to_string(),
            backend_type: lease.backend.kind().as_str().to_owned(),
            backend_data,
            seen: lease.seen.map(|seen| seen.since_epoch().as_secs()),
        }
    }

    fn lease(&self) -> Option<Lease> {
        let backend = match self.backend_type.as_str() {
            "alloc" => Backend::Alloc,
            "host-gw" => Backend::HostGw,
            "vxlan" => Backend::Vxlan(self.mac()?),
            _ => return None,
        };
        let http_port = self.http_port.parse().unwrap_or_default();
        let seen = self.seen.map(|seconds| Wall::from_epoch(Duration::from_secs(seconds)));
        Some(Lease { public_ip: self.public_ip, http_port, backend, seen })
    }

    fn mac(&self) -> Option<Mac> {
        self.backend_data.as_ref()?.get("VtepMAC")?.as_str()?.parse().ok()
    }
}

/// Zero is the original's way to say nothing.
fn is_unset(len: &Option<u8>) -> bool {
    len.unwrap_or_default() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's example with two hosts.
    const TWO_HOSTS: &str = r#"{"config":{"Network":"100.100.0.0/16","Backend":{"Type":"vxlan"}},"subnets":{"100.100.12.0-24":{"PublicIP":"192.0.2.10","HTTPPort":"5002","BackendType":"vxlan","BackendData":{"VtepMAC":"b6:bf:4c:3d:de:01"}},"100.100.77.0-24":{"PublicIP":"192.0.2.11","HTTPPort":"5002","BackendType":"vxlan","BackendData":{"VtepMAC":"b6:bf:4c:3d:de:02"}}}}"#;

    #[test]
    fn the_wire_form_is_read_and_written_back_byte_for_byte() {
        let registry: Registry = serde_json::from_str(TWO_HOSTS).unwrap();
        assert_eq!(serde_json::to_string(&registry).unwrap(), TWO_HOSTS);
        let leases = registry.leases();
        let second = &leases[&"100.100.77.0/24".parse().unwrap()];
        assert_eq!(second.public_ip, Ipv4Addr::new(192, 0, 2, 11));
        assert_eq!(second.backend, Backend::Vxlan("b6:bf:4c:3d:de:02".parse().unwrap()));
        assert_eq!(registry.backend().unwrap(), BackendKind::Vxlan);
        assert_eq!(registry.tunnel().unwrap(), TunnelConfig { vni: 1, port: 8472 });
    }

    #[test]
    fn impossible_backends_are_refused_by_name() {
        let with = |backend: &str| {
            let text = format!(r#"{{"config":{{"Network":"10.3.0.0/16","Backend":{backend}}}}}"#);
            serde_json::from_str::<Registry>(&text).unwrap()
        };
        let refused = with(r#"{"Type":"udp"}"#).backend().unwrap_err();
        let source = std::error::Error::source(&refused).unwrap().to_string();
        assert_eq!(source, "\"udp\" is no backend: there are alloc, host-gw and vxlan");
        let tunnel = with(r#"{"Type":"vxlan","VNI":7,"Port":4789}"#).tunnel().unwrap();
        assert_eq!(tunnel, TunnelConfig { vni: 7, port: 4789 });
        for bad in [r#"{"VNI":16777216}"#, r#"{"Port":65536}"#, r#"{"VNI":"x"}"#, r#"{"Port":-1}"#]
        {
            assert!(matches!(with(bad).tunnel(), Err(RegistryError::Tunnel)), "{bad}");
        }
    }

    #[test]
    fn a_lease_is_written_as_the_original_reads_it() {
        let network = ConfigInput::of("10.3.0.0/16".parse().unwrap());
        let mut registry = Registry::new(network, BackendKind::Alloc);
        let public_ip = Ipv4Addr::new(192, 0, 2, 10);
        let seen = Some(Wall::from_epoch(Duration::from_secs(1_800_000_000)));
        let lease = Lease { public_ip, http_port: 5002, backend: Backend::Alloc, seen };
        let subnet = "10.3.1.0/24".parse().unwrap();
        assert!(registry.put(subnet, &lease).unwrap());
        assert!(!registry.put(subnet, &lease).unwrap(), "nothing changed");
        assert_eq!(
            serde_json::to_string(&registry).unwrap(),
            r#"{"config":{"Network":"10.3.0.0/16","Backend":{"Type":"alloc"}},"subnets":{"10.3.1.0-24":{"PublicIP":"192.0.2.10","HTTPPort":"5002","BackendType":"alloc","Seen":1800000000}}}"#
        );
        assert_eq!(registry.leases()[&subnet], lease);
    }

    #[test]
    fn what_is_not_understood_stays_and_is_not_leased() {
        let text = r#"{"config":{"Network":"10.3.0.0/16","SubnetMax":"10.3.9.0","Backend":{"Type":"alloc","VNI":7},"Later":1},"subnets":{"10.3.4.0-24":{"PublicIP":"192.0.2.9","BackendType":"carrier-pigeon","Wings":2}},"later":true}"#;
        let registry: Registry = serde_json::from_str(text).unwrap();
        assert!(registry.leases().contains_key(&"10.3.4.0/24".parse().unwrap()));
        assert_eq!(serde_json::to_string(&registry).unwrap(), text);
    }
}
