//! How a host comes to its subnet: it reads all leases, proposes one, writes it by compare-and-swap,
//! and starts over when somebody else wrote first.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use kit_clock::Wall;

use crate::block::Block;
use crate::config::Config;
use crate::lease::Leases;

/// Hosts that start together must not all want the same subnet, so each draws among so many free
/// ones.
const CANDIDATES: usize = 100;
/// After so many lost races a host waits before it goes on.
const QUICK_TRIES: u32 = 10;
/// How long it waits then.
const PAUSE: Duration = Duration::from_secs(1);

/// One host on its way to a lease.
#[derive(Clone, Debug)]
pub struct Acquisition {
    config: Config,
    own_ip: Ipv4Addr,
    remembered: Option<Block>,
    random: u64,
    lost_races: u32,
}

/// What the host should do with the leases as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// It has this one already; its attributes are to be written if they changed.
    Keep(Block),
    /// It should write a lease for this one, on condition that nothing changed meanwhile.
    Take(Block),
}

/// When to read the leases again after a lost race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Now.
    AtOnce,
    /// Later.
    After(Duration),
}

/// Every subnet is leased.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of subnets: all {leased} subnets of length {len} in {network} are leased")]
pub struct OutOfSubnets {
    network: Block,
    len: u8,
    leased: usize,
}

impl Acquisition {
    /// A host with the external address `own_ip`, which may remember a subnet its jobs run in.
    pub fn new(config: Config, own_ip: Ipv4Addr, remembered: Option<Block>, seed: u64) -> Self {
        let remembered = remembered.filter(|subnet| config.allows(*subnet));
        Self { config, own_ip, remembered, random: seed, lost_races: 0 }
    }

    /// The subnet of the lease with the own address; else the remembered one, if it is free; else
    /// one of the first free ones.
    pub fn propose(&mut self, leases: &Leases) -> Result<Proposal, OutOfSubnets> {
        let own = leases.iter().find(|(_, lease)| lease.public_ip == self.own_ip);
        if let Some((subnet, _)) = own {
            return Ok(Proposal::Keep(*subnet));
        }
        let free = |subnet: &Block| !leases.keys().any(|leased| leased.overlaps(*subnet));
        if let Some(subnet) = self.remembered.filter(free) {
            return Ok(Proposal::Take(subnet));
        }
        let candidates: Vec<_> = self.config.subnets().filter(free).take(CANDIDATES).collect();
        if candidates.is_empty() {
            return Err(OutOfSubnets {
                network: self.config.network(),
                len: self.config.subnet_len(),
                leased: leases.len(),
            });
        }
        let drawn = self.draw() % candidates.len() as u64;
        let drawn = usize::try_from(drawn).unwrap_or_default();
        Ok(Proposal::Take(candidates[drawn]))
    }

    /// When every subnet is leased: the one whose host has been silent for longest, if that is more than a
    /// week. A host in `alive` has just been heard of, whatever clocks say.
    pub fn reclaim(
        &self,
        leases: &Leases,
        alive: &BTreeSet<Ipv4Addr>,
        now: Wall,
    ) -> Option<Proposal> {
        let silent = leases.iter().filter(|(subnet, lease)| {
            self.config.allows(**subnet)
                && lease.is_silent(now)
                && !alive.contains(&lease.public_ip)
        });
        let longest = silent.min_by_key(|(_, lease)| lease.seen);
        longest.map(|(subnet, _)| Proposal::Take(*subnet))
    }

    /// Somebody else wrote first.
    pub fn lost_race(&mut self) -> Retry {
        self.lost_races += 1;
        if self.lost_races.is_multiple_of(QUICK_TRIES) {
            Retry::After(PAUSE)
        } else {
            Retry::AtOnce
        }
    }

    /// splitmix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigInput;
    use crate::lease::{Backend, Lease};
    use proptest::prelude::*;

    fn block(text: &str) -> Block {
        text.parse().unwrap()
    }

    fn config(network: &str, min: &str, max: &str) -> Config {
        let ip = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        let input = ConfigInput {
            subnet_min: ip(min),
            subnet_max: ip(max),
            ..ConfigInput::of(block(network))
        };
        Config::new(input).unwrap()
    }

    fn host(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, number)
    }

    fn lease(number: u8) -> Lease {
        Lease { public_ip: host(number), http_port: 5002, backend: Backend::Alloc, seen: None }
    }

    #[test]
    fn the_only_free_subnet_is_taken_and_kept() {
        let config = config("10.3.0.0/16", "10.3.1.0", "10.3.3.0");
        let mut leases =
            Leases::from([(block("10.3.1.0/24"), lease(1)), (block("10.3.2.0/24"), lease(2))]);
        let mut acquisition = Acquisition::new(config, host(3), None, 1);
        assert_eq!(acquisition.propose(&leases), Ok(Proposal::Take(block("10.3.3.0/24"))));
        leases.insert(block("10.3.3.0/24"), lease(3));
        assert_eq!(acquisition.propose(&leases), Ok(Proposal::Keep(block("10.3.3.0/24"))));
        let late = Acquisition::new(config, host(4), None, 1).propose(&leases).unwrap_err();
        assert_eq!(
            late.to_string(),
            "out of subnets: all 3 subnets of length 24 in 10.3.0.0/16 are leased"
        );
    }

    #[test]
    fn a_remembered_subnet_comes_back_unless_somebody_has_it() {
        let config = config("10.3.0.0/16", "", "");
        let remembered = Some(block("10.3.77.0/24"));
        let mut alone = Acquisition::new(config, host(1), remembered, 1);
        assert_eq!(alone.propose(&Leases::new()), Ok(Proposal::Take(block("10.3.77.0/24"))));
        let taken = Leases::from([(block("10.3.77.0/24"), lease(2))]);
        assert_ne!(alone.propose(&taken), Ok(Proposal::Take(block("10.3.77.0/24"))));
        let foreign = Some(block("10.9.0.0/24"));
        let mut moved = Acquisition::new(config, host(1), foreign, 1);
        let Ok(Proposal::Take(subnet)) = moved.propose(&Leases::new()) else { panic!() };
        assert!(config.allows(subnet), "the network was changed since");
    }

    #[test]
    fn a_lease_is_given_away_after_a_week_of_silence_only() {
        let now = Wall::from_epoch(Duration::from_secs(1_000_000_000));
        let ago = |days: u64| {
            Some(Wall::from_epoch(now.since_epoch() - Duration::from_secs(days * 24 * 3600)))
        };
        let seen = |number, days| Lease { seen: ago(days), ..lease(number) };
        let all = [
            (block("10.3.1.0/24"), seen(1, 7)),
            (block("10.3.2.0/24"), seen(2, 9)),
            (block("10.3.3.0/24"), seen(3, 30)),
            (block("10.3.4.0/24"), lease(4)),
            (block("10.3.128.0/17"), seen(5, 90)),
        ];
        let late = Acquisition::new(config("10.3.0.0/16", "", "10.3.4.0"), host(9), None, 1);
        let reclaim = |leases: &[(Block, Lease)], alive: &[u8]| {
            let alive = alive.iter().map(|number| host(*number)).collect();
            late.reclaim(&leases.iter().cloned().collect(), &alive, now)
        };
        assert_eq!(reclaim(&all, &[]), Some(Proposal::Take(block("10.3.3.0/24"))));
        assert_eq!(reclaim(&all, &[3]), Some(Proposal::Take(block("10.3.2.0/24"))));
        assert_eq!(reclaim(&all, &[2, 3]), None);
        assert_eq!(reclaim(&all[..1], &[]), None);
    }

    #[test]
    fn after_ten_lost_races_it_pauses() {
        let mut acquisition = Acquisition::new(config("10.3.0.0/16", "", ""), host(1), None, 1);
        let retries: Vec<_> = (0..20).map(|_| acquisition.lost_race()).collect();
        let paused: Vec<_> = (1..=20).filter(|n| retries[n - 1] == Retry::After(PAUSE)).collect();
        assert_eq!(paused, [10, 20]);
    }

    proptest! {
        /// Hosts race for leases in any order, each reading at one time and writing at a later one.
        #[test]
        fn hosts_that_race_end_with_one_subnet_each(
            seed: u64,
            order in prop::collection::vec((0_usize..6, any::<bool>()), 0..200),
        ) {
            let config = config("10.3.0.0/16", "10.3.1.0", "10.3.6.0");
            let mut hosts: Vec<_> = (0..6_u8)
                .map(|n| (n, Acquisition::new(config, host(n), None, seed ^ u64::from(n)), None))
                .collect();
            let (mut leases, mut version) = (Leases::new(), 0_u64);
            let finish = (0..6).flat_map(|n| [(n, true), (n, false)].repeat(8));
            for (at, reads) in order.into_iter().chain(finish) {
                let (number, acquisition, pending) = &mut hosts[at];
                if reads || pending.is_none() {
                    *pending = Some((version, acquisition.propose(&leases).unwrap()));
                    continue;
                }
                let (read_at, proposal) = pending.take().unwrap();
                match proposal {
                    Proposal::Keep(subnet) => prop_assert_eq!(leases[&subnet].public_ip, host(*number)),
                    Proposal::Take(_) if read_at != version => { acquisition.lost_race(); }
                    Proposal::Take(subnet) => {
                        prop_assert!(config.allows(subnet));
                        prop_assert!(leases.insert(subnet, lease(*number)).is_none(), "nobody loses a lease");
                        version += 1;
                    }
                }
            }
            let owners: std::collections::BTreeSet<_> = leases.values().map(|l| l.public_ip).collect();
            prop_assert_eq!((leases.len(), owners.len()), (6, 6));
        }
    }
}
