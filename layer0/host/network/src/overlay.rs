//! What a host must know of the way to other hosts' jobs, to keep its rules across it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range {
    first: Ipv4Addr,
    prefix_len: u8,
}

/// Not `a.b.c.d/len`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network: write an address and a prefix length, such as 100.100.0.0/16")]
pub struct RangeError(String);

impl Range {
    /// The block of this length that `ip` lies in; the length is at most 32.
    pub fn around(ip: Ipv4Addr, prefix_len: u8) -> Option<Self> {
        (prefix_len <= 32).then(|| {
            let whole = Self { first: ip, prefix_len };
            Self { first: ip & whole.mask(), prefix_len }
        })
    }

    /// Its first address.
    pub(crate) fn first(self) -> Ipv4Addr {
        self.first
    }

    /// What all its addresses share.
    pub(crate) fn mask(self) -> Ipv4Addr {
        let host_bits = u32::from(32_u8.saturating_sub(self.prefix_len));
        Ipv4Addr::from(u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }
}

impl FromStr for Range {
    type Err = RangeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/');
        let parsed = parts.and_then(|(ip, len)| Some((ip.parse().ok()?, len.parse().ok()?)));
        let range = parsed.and_then(|(ip, len)| Self::around(ip, len));
        range.ok_or_else(|| RangeError(text.to_owned()))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_len)
    }
}

impl TryFrom<String> for Range {
    type Error = RangeError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

/// How packets get from one host's jobs to another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Not at all, as far as this host has to do with it.
    None,
    /// By routes over the hosts' own links, which carry nothing of strangers.
    Routes,
    /// Through the device `flannel.<vni>`, over this UDP port.
    Tunnel {
        /// The number of the virtual network.
        vni: u32,
        /// The UDP port.
        port: u16,
    },
}

/// The network between hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// All hosts' subnets together: traffic inside is not masqueraded.
    pub network: Range,
    /// How packets get to other hosts.
    pub way: Way,
    /// The hosts' external addresses.
    pub hosts: BTreeSet<Ipv4Addr>,
}

impl Overlay {
    /// The tunnel device's name, if there is one. Nothing but a number of it comes from outside.
    pub(crate) fn device(&self) -> Option<String> {
        match self.way {
            Way::Tunnel { vni, .. } => Some(format!("flannel.{vni}")),
            Way::None | Way::Routes => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_printed() {
        assert_eq!("100.100.7.9/16".parse::<Range>().unwrap().to_string(), "100.100.0.0/16");
        assert_eq!("1.2.3.4/0".parse::<Range>().unwrap().to_string(), "0.0.0.0/0");
        for bad in ["", "100.100.0.0", "100.100.0.0/33", "x/16", "100.100.0.0/16 drop"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
    }
}
