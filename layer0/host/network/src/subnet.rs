//! A host's subnet as the wire writes it: the bridge's own address and the prefix, `100.100.12.1/24`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use host_job::Block;

use crate::overlay::Range;

/// The bridge's address inside the block of addresses that a host's jobs get theirs from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    bridge_ip: Ipv4Addr,
    prefix_len: u8,
}

/// Why a text is no subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Not `a.b.c.d/len`.
    #[error(
        "{0:?} is no subnet: write an IPv4 address and a prefix length, such as 100.100.12.1/24"
    )]
    Syntax(String),
    /// Too small to hold a bridge and a job, or as large as the internet.
    #[error("a prefix length of {0} is not usable: it must be between 8 and 30")]
    Length(u8),
    /// The address is the block's first or last.
    #[error("{0} cannot be a bridge's address: it is the first or last one of its subnet")]
    Bridge(Ipv4Addr),
}

impl Subnet {
    /// A subnet whose bridge has the address `bridge_ip`.
    pub fn new(bridge_ip: Ipv4Addr, prefix_len: u8) -> Result<Self, SubnetError> {
        if !(8..=30).contains(&prefix_len) {
            return Err(SubnetError::Length(prefix_len));
        }
        let subnet = Self { bridge_ip, prefix_len };
        if bridge_ip == subnet.network() || bridge_ip == subnet.broadcast() {
            return Err(SubnetError::Bridge(bridge_ip));
        }
        Ok(subnet)
    }

    /// The bridge's address: gateway and name server of all jobs.
    pub fn bridge_ip(self) -> Ipv4Addr {
        self.bridge_ip
    }

    /// How many bits all addresses share.
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The first address, which nobody has.
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.bridge_ip) & self.mask())
    }

    /// The last address, which nobody has.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.bridge_ip) | !self.mask())
    }

    /// All its addresses.
    pub(crate) fn range(self) -> Range {
        Range::around(self.bridge_ip, self.prefix_len).expect("a prefix length of at most 30")
    }

    /// What its jobs get their addresses from: all between its ends but the bridge's.
    pub(crate) fn for_jobs(self) -> Block {
        let (first, last) = (u32::from(self.network()) + 1, u32::from(self.broadcast()) - 1);
        Block { first: first.into(), last: last.into(), bridge: self.bridge_ip }
    }

    /// Whether `ip` lies between the first and the last address.
    pub fn contains(self, ip: Ipv4Addr) -> bool {
        self.network() <= ip && ip <= self.broadcast()
    }

    /// The block without the bridge's part: `100.100.12.0/24`.
    pub fn block(self) -> String {
        format!("{}/{}", self.network(), self.prefix_len)
    }

    fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix_len))
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || SubnetError::Syntax(text.to_owned());
        let (ip, len) = text.split_once('/').ok_or_else(wrong)?;
        Self::new(ip.parse().map_err(|_| wrong())?, len.parse().map_err(|_| wrong())?)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bridge_ip, self.prefix_len)
    }
}

impl TryFrom<String> for Subnet {
    type Error = SubnetError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_names_its_bridge_and_its_block() {
        let subnet: Subnet = "100.100.12.1/24".parse().unwrap();
        assert_eq!(subnet.block(), "100.100.12.0/24");
        assert_eq!(subnet.to_string(), "100.100.12.1/24");
        assert_eq!(subnet.broadcast(), Ipv4Addr::new(100, 100, 12, 255));
        let [first, last] = [1, 254].map(|end| Ipv4Addr::new(100, 100, 12, end));
        assert_eq!(subnet.for_jobs(), Block { first, last, bridge: first });
    }

    #[test]
    fn unusable_subnets_are_refused() {
        for bad in
            ["", "10.0.0.1", "10.0.0.0/24", "10.0.0.255/24", "10.0.0.1/31", "10.0.0.1/0", "x/24"]
        {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }
}
