//! Which subnets may be leased: what a person wrote, and what follows from it.

use std::net::Ipv4Addr;

use crate::block::Block;

/// What a person wrote. Everything but the network has a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigInput {
    /// The cluster's network.
    pub network: Block,
    /// The first subnet to lease.
    pub subnet_min: Option<Ipv4Addr>,
    /// The last subnet to lease.
    pub subnet_max: Option<Ipv4Addr>,
    /// The length of every host's subnet.
    pub subnet_len: Option<u8>,
}

impl ConfigInput {
    /// A network with all defaults.
    pub fn of(network: Block) -> Self {
        Self { network, subnet_min: None, subnet_max: None, subnet_len: None }
    }
}

/// The subnets that may be leased: all of one length, from a first to a last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    network: Block,
    min: Block,
    max: Block,
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The subnets would be larger than the network.
    #[error("HostSubnet is larger network than Network")]
    LargerThanNetwork,
    /// A subnet with no room for a bridge and a job.
    #[error("SubnetLen {0} leaves no address for a job: it is at most 30")]
    TooSmall(u8),
    /// The first subnet stays free, and there is no second one.
    #[error(
        "Network {0} has room for no more than one host subnet: make it larger or SubnetLen longer"
    )]
    NoRoom(Block),
    /// Not inside the network.
    #[error("{field} is not in the range of the Network: {ip} is not in {network}")]
    OutOfRange {
        /// `SubnetMin` or `SubnetMax`.
        field: &'static str,
        /// What was written.
        ip: Ipv4Addr,
        /// The network.
        network: Block,
    },
    /// Not the first address of a subnet.
    #[error("{field} {ip} is not the first address of a subnet of length {len}")]
    Unaligned {
        /// `SubnetMin` or `SubnetMax`.
        field: &'static str,
        /// What was written.
        ip: Ipv4Addr,
        /// The subnets' length.
        len: u8,
    },
    /// The first lies behind the last.
    #[error("SubnetMin {min} is behind SubnetMax {max}")]
    Reversed {
        /// The first.
        min: Ipv4Addr,
        /// The last.
        max: Ipv4Addr,
    },
}

/// What hosts get when nobody says otherwise.
const DEFAULT_SUBNET_LEN: u8 = 24;

impl Config {
    /// Checks what was written and fills in what was not.
    pub fn new(input: ConfigInput) -> Result<Self, ConfigError> {
        let network = input.network;
        let default_len = if network.prefix_len() < DEFAULT_SUBNET_LEN {
            DEFAULT_SUBNET_LEN
        } else {
            network.prefix_len() + 1
        };
        let len = input.subnet_len.unwrap_or(default_len);
        if len < network.prefix_len() {
            return Err(ConfigError::LargerThanNetwork);
        }
        if len > 30 {
            return Err(ConfigError::TooSmall(len));
        }
        let subnet = |ip| Block::around(ip, len).map_err(|_| ConfigError::TooSmall(len));
        let second = subnet(network.first())?.next().filter(|next| network.contains_block(*next));
        let min = match input.subnet_min {
            Some(ip) => written("SubnetMin", ip, network, subnet(ip)?)?,
            None => second.ok_or(ConfigError::NoRoom(network))?,
        };
        let max = match input.subnet_max {
            Some(ip) => written("SubnetMax", ip, network, subnet(ip)?)?,
            None => subnet(network.last())?,
        };
        if min > max {
            return Err(ConfigError::Reversed { min: min.first(), max: max.first() });
        }
        Ok(Self { network, min, max })
    }

    /// The cluster's network.
    pub fn network(&self) -> Block {
        self.network
    }

    /// The first subnet that may be leased.
    pub fn subnet_min(&self) -> Block {
        self.min
    }

    /// The last subnet that may be leased.
    pub fn subnet_max(&self) -> Block {
        self.max
    }

    /// The length of every subnet.
    pub fn subnet_len(&self) -> u8 {
        self.min.prefix_len()
    }

    /// Whether a subnet may be leased.
    pub fn allows(&self, subnet: Block) -> bool {
        subnet.prefix_len() == self.subnet_len() && self.min <= subnet && subnet <= self.max
    }

    /// All subnets that may be leased, in order.
    pub fn subnets(&self) -> impl Iterator<Item = Block> {
        let max = self.max;
        std::iter::successors(Some(self.min), |subnet| subnet.next()).take_while(move |s| *s <= max)
    }
}

/// A bound that a person wrote.
fn written(
    field: &'static str,
    ip: Ipv4Addr,
    network: Block,
    subnet: Block,
) -> Result<Block, ConfigError> {
    if !network.contains(ip) {
        return Err(ConfigError::OutOfRange { field, ip, network });
    }
    if subnet.first() != ip {
        return Err(ConfigError::Unaligned { field, ip, len: subnet.prefix_len() });
    }
    Ok(subnet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(network: &str, min: &str, max: &str, len: u8) -> ConfigInput {
        let ip = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        ConfigInput {
            network: network.parse().unwrap(),
            subnet_min: ip(min),
            subnet_max: ip(max),
            subnet_len: (len > 0).then_some(len),
        }
    }

    #[test]
    fn bounds_have_defaults_and_can_be_written() {
        for (given, min, max) in [
            (input("10.3.0.0/16", "", "", 0), "10.3.1.0/24", "10.3.255.0/24"),
            (input("10.3.0.0/16", "10.3.5.0", "10.3.8.0", 28), "10.3.5.0/28", "10.3.8.0/28"),
            (input("10.3.7.0/24", "", "", 0), "10.3.7.128/25", "10.3.7.128/25"),
            (input("10.3.7.0/24", "10.3.7.0", "", 24), "10.3.7.0/24", "10.3.7.0/24"),
            (input("100.100.0.0/16", "", "", 20), "100.100.16.0/20", "100.100.240.0/20"),
        ] {
            let config = Config::new(given).unwrap();
            assert_eq!(
                (
                    config.subnet_min().to_string().as_str(),
                    config.subnet_max().to_string().as_str()
                ),
                (min, max)
            );
        }
    }

    #[test]
    fn impossible_configurations_say_which_part() {
        for (given, message) in [
            (input("10.3.0.0/16", "", "", 8), "HostSubnet is larger network than Network"),
            (
                input("10.3.0.0/16", "", "", 31),
                "SubnetLen 31 leaves no address for a job: it is at most 30",
            ),
            (
                input("10.3.7.0/24", "", "", 24),
                "Network 10.3.7.0/24 has room for no more than one host subnet: make it larger or SubnetLen longer",
            ),
            (
                input("10.3.0.0/16", "10.4.5.0", "", 0),
                "SubnetMin is not in the range of the Network: 10.4.5.0 is not in 10.3.0.0/16",
            ),
            (
                input("10.3.0.0/16", "", "10.2.0.0", 0),
                "SubnetMax is not in the range of the Network: 10.2.0.0 is not in 10.3.0.0/16",
            ),
            (
                input("10.3.0.0/16", "10.3.5.7", "", 0),
                "SubnetMin 10.3.5.7 is not the first address of a subnet of length 24",
            ),
            (
                input("10.3.0.0/16", "10.3.9.0", "10.3.8.0", 0),
                "SubnetMin 10.3.9.0 is behind SubnetMax 10.3.8.0",
            ),
        ] {
            assert_eq!(Config::new(given).unwrap_err().to_string(), message);
        }
    }
}
