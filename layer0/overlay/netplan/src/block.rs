//! A block of IPv4 addresses: `10.3.1.0/24`, or `10.3.1.0-24` where a slash would be in the way.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A first address and how many bits all addresses share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    first: u32,
    len: u8,
}

/// Why a text is no block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Not `a.b.c.d/len` or `a.b.c.d-len`.
    #[error("{0:?} is no network: write an address and a prefix length, such as 10.3.0.0/16")]
    Syntax(String),
    /// A prefix length above 32.
    #[error("{0} is no prefix length: it is at most 32")]
    Length(u8),
}

impl Block {
    /// The block of this length that `ip` lies in.
    pub fn around(ip: Ipv4Addr, len: u8) -> Result<Self, BlockError> {
        if len > 32 {
            return Err(BlockError::Length(len));
        }
        Ok(Self { first: u32::from(ip) & mask(len), len })
    }

    /// The lowest address.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first)
    }

    /// The highest address.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first | !mask(self.len))
    }

    /// The prefix length.
    pub fn prefix_len(self) -> u8 {
        self.len
    }

    /// How many addresses it has.
    pub fn size(self) -> u64 {
        1 << (32 - u64::from(self.len))
    }

    /// The block of the same length behind this one; none behind the last one there is.
    pub fn next(self) -> Option<Self> {
        let first = u64::from(self.first) + self.size();
        Some(Self { first: u32::try_from(first).ok()?, len: self.len })
    }

    /// Whether both have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= u32::from(other.last()) && other.first <= u32::from(self.last())
    }

    /// Whether `ip` is in it.
    pub fn contains(self, ip: Ipv4Addr) -> bool {
        self.first() <= ip && ip <= self.last()
    }

    /// Whether all of `other` is in it.
    pub fn contains_block(self, other: Self) -> bool {
        self.contains(other.first()) && self.contains(other.last())
    }

    /// The form used as a key: `10.3.1.0-24`.
    pub fn key(self) -> String {
        format!("{}-{}", self.first(), self.len)
    }
}

fn mask(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

impl FromStr for Block {
    type Err = BlockError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || BlockError::Syntax(text.to_owned());
        let (ip, len) = text.split_once(['/', '-']).ok_or_else(wrong)?;
        Self::around(ip.parse().map_err(|_| wrong())?, len.parse().map_err(|_| wrong())?)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(text: &str) -> Block {
        text.parse().unwrap()
    }

    #[test]
    fn blocks_are_read_printed_and_followed() {
        assert_eq!(block("10.3.1.7/24"), block("10.3.1.0-24"));
        assert_eq!(block("10.3.1.0/24").to_string(), "10.3.1.0/24");
        assert_eq!(block("10.3.1.0/24").key(), "10.3.1.0-24");
        assert_eq!(block("10.3.255.0/24").next(), Some(block("10.4.0.0/24")));
        assert_eq!(block("255.255.255.0/24").next(), None);
        assert_eq!(block("0.0.0.0/0").last(), Ipv4Addr::BROADCAST);
        for bad in ["", "10.3.1.0", "10.3.1/24", "10.3.1.0/33", "10.3.1.0/x", "x/24"] {
            assert!(bad.parse::<Block>().is_err(), "{bad}");
        }
    }

    #[test]
    fn blocks_overlap_when_one_holds_the_other() {
        assert!(block("10.3.0.0/16").overlaps(block("10.3.7.0/24")));
        assert!(block("10.3.7.0/24").overlaps(block("10.3.0.0/16")));
        assert!(!block("10.3.7.0/24").overlaps(block("10.3.8.0/24")));
        assert!(block("10.3.0.0/16").contains_block(block("10.3.7.0/24")));
        assert!(!block("10.3.7.0/24").contains_block(block("10.3.0.0/16")));
    }

    proptest! {
        #[test]
        fn every_block_reads_back_as_written(ip: u32, len in 0_u8..=32) {
            let one = Block::around(Ipv4Addr::from(ip), len).unwrap();
            prop_assert_eq!(block(&one.to_string()), one);
            prop_assert_eq!(block(&one.key()), one);
            prop_assert!(one.contains(Ipv4Addr::from(ip)));
        }
    }
}
