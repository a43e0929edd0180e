//! Leases: which host has which subnet, and how the others reach it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use kit_clock::Wall;

use crate::block::Block;

/// How often a host writes down that it still has its lease.
pub const RENEW_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How long a host must have been silent before its lease may be given away. The renewal comes on top:
/// nobody knows when between two of them it fell silent.
pub const SILENCE: Duration = Duration::from_secs(7 * 24 * 3600);

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
    /// When the host last wrote that it has it; unknown for leases of others than this version.
    pub seen: Option<Wall>,
}

impl Lease {
    /// Whether a host that has it should write again that it has.
    pub fn is_due(&self, now: Wall) -> bool {
        self.age(now).is_none_or(|age| age >= RENEW_EVERY)
    }

    /// Whether its host has been silent for so long that another may have it. A time that is not known,
    /// or lies ahead, says nothing.
    pub fn is_silent(&self, now: Wall) -> bool {
        self.age(now).is_some_and(|age| age > SILENCE + RENEW_EVERY)
    }

    fn age(&self, now: Wall) -> Option<Duration> {
        now.since_epoch().checked_sub(self.seen?.since_epoch())
    }
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
    /// What a host writes into its lease. Its tunnel device's hardware address follows from its address,
    /// so a device that was made anew is no news to the others.
    pub fn of(kind: BackendKind, public_ip: Ipv4Addr) -> Self {
        match kind {
            BackendKind::Alloc => Self::Alloc,
            BackendKind::HostGw => Self::HostGw,
            BackendKind::Vxlan => Self::Vxlan(Mac::of_tunnel(public_ip)),
        }
    }

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
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Alloc, Self::HostGw, Self::Vxlan];

    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alloc => "alloc",
            Self::HostGw => "host-gw",
            Self::Vxlan => "vxlan",
        }
    }
}

/// A backend that this version does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no backend: there are alloc, host-gw and vxlan")]
pub struct BackendError(String);

impl FromStr for BackendKind {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| BackendError(text.to_owned()))
    }
}

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The tunnel device of a host: locally administered (IEEE 802: the second lowest bit), with the
    /// host's address in it.
    pub fn of_tunnel(host: Ipv4Addr) -> Self {
        let [a, b, c, d] = host.octets();
        Self([0xfe, 0x02, a, b, c, d])
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(host: u8) -> Lease {
        let public_ip = Ipv4Addr::new(192, 0, 2, host);
        Lease { public_ip, http_port: 5002, backend: Backend::Alloc, seen: None }
    }

    #[test]
    fn a_lease_is_renewed_daily_and_silent_after_a_week() {
        let at =
            |days: u64| Wall::from_epoch(Duration::from_secs(1_000_000_000 + days * 24 * 3600));
        let seen = Lease { seen: Some(at(0)), ..lease(1) };
        assert!(!seen.is_due(at(0)) && seen.is_due(at(1)));
        assert!(!seen.is_silent(at(7)) && !seen.is_silent(at(8)) && seen.is_silent(at(9)));
        let ahead = Lease { seen: Some(at(30)), ..lease(1) };
        assert!(ahead.is_due(at(0)), "a clock that was set back is corrected");
        assert!(!ahead.is_silent(at(0)));
        assert!(lease(1).is_due(at(0)) && !lease(1).is_silent(at(900)));
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
