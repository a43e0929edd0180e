//! Leases: which host has which subnet, and how the others reach it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::block::Block;

/// All leases of a cluster.
pub type Leases = BTreeMap<Block, Lease>;

/// A host's side of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The host's address outside the overlay; there is one lease per address.
    pub public_ip: Ipv4Addr,
    /// Where its overlay answers `/ping`.
    pub http_port: u16,
    /// How packets get there.
    pub backend: Backend,
}

/// How packets get to a host's subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// By routes that somebody else makes.
    Alloc,
    /// By a route to the host itself: all hosts are on one link.
    HostGw,
    /// In UDP packets, to a device with this hardware address.
    Vxlan(Mac),
}

/// A [`Backend`] without what belongs to one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// See [`Backend::Alloc`].
    Alloc,
    /// See [`Backend::HostGw`].
    HostGw,
    /// See [`Backend::Vxlan`].
    Vxlan,
}

impl Backend {
    /// Its kind.
    pub fn kind(self) -> BackendKind {
        match self {
            Self::Alloc => BackendKind::Alloc,
            Self::HostGw => BackendKind::HostGw,
            Self::Vxlan(_) => BackendKind::Vxlan,
        }
    }
}

impl BackendKind {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alloc => "alloc",
            Self::HostGw => "host-gw",
            Self::Vxlan => "vxlan",
        }
    }
}

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// Not six hex bytes with colons between.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hardware address: write six hex bytes, such as b6:bf:4c:3d:de:01")]
pub struct MacError(String);

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let byte = |part: &str| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok())?;
        let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| MacError(text.to_owned()))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What became of somebody else's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It is new, or says something else than before.
    Added(Block, Lease),
    /// It is gone.
    Removed(Block),
}

/// What changed between two views of the leases, but for the own one.
pub fn lease_changes(before: &Leases, after: &Leases, own: Ipv4Addr) -> Vec<LeaseChange> {
    let foreign = |lease: &Lease| lease.public_ip != own;
    let gone =
        before.iter().filter(|(subnet, lease)| foreign(lease) && !after.contains_key(subnet));
    let new =
        after.iter().filter(|(subnet, lease)| foreign(lease) && before.get(subnet) != Some(lease));
    let removed = gone.map(|(subnet, _)| LeaseChange::Removed(*subnet));
    removed.chain(new.map(|(subnet, lease)| LeaseChange::Added(*subnet, lease.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(host: u8) -> Lease {
        let public_ip = Ipv4Addr::new(192, 0, 2, host);
        Lease { public_ip, http_port: 5002, backend: Backend::Alloc }
    }

    #[test]
    fn a_new_lease_is_one_event_and_the_own_one_none() {
        let (one, two): (Block, Block) =
            ("10.3.1.0/24".parse().unwrap(), "10.3.2.0/24".parse().unwrap());
        let own = lease(1).public_ip;
        let alone = Leases::from([(one, lease(1))]);
        let both = Leases::from([(one, lease(1)), (two, lease(2))]);
        assert_eq!(lease_changes(&Leases::new(), &alone, own), []);
        assert_eq!(lease_changes(&alone, &both, own), [LeaseChange::Added(two, lease(2))]);
        assert_eq!(lease_changes(&both, &both, own), []);
        assert_eq!(lease_changes(&both, &alone, own), [LeaseChange::Removed(two)]);
    }

    #[test]
    fn hardware_addresses_read_back_as_written() {
        let text = "b6:bf:4c:3d:de:01";
        assert_eq!(text.parse::<Mac>().unwrap().to_string(), text);
        for bad in
            ["", "b6:bf:4c:3d:de", "b6:bf:4c:3d:de:01:02", "b6:bf:4c:3d:de:1", "b6:bf:4c:3d:de:xx"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
