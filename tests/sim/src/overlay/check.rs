//! What is promised about subnets and leases.

use std::collections::BTreeMap;
use std::time::Duration;

use netplan::{Block, Leases, Proposal};

use super::{World, address};

/// How long a host must be silent before its lease may be given away.
const GIVEN_AWAY: Duration = Duration::from_secs(7 * 24 * 3600);
/// By how much clocks may differ.
pub(super) const SLACK: Duration = Duration::from_secs(2 * 3600);

impl World {
    pub(super) fn check_uses(&self) {
        let users = self.hosts.iter().enumerate().filter(|(_, host)| !host.evicted);
        let users: Vec<(usize, Block)> =
            users.filter_map(|(number, host)| Some((number, host.uses?))).collect();
        for (at, (one, used)) in users.iter().enumerate() {
            let other = users[..at].iter().find(|(_, other)| other.overlaps(*used));
            assert_eq!(other, None, "uses what host {one} uses, {used}");
        }
    }

    /// Whoever was just heard of keeps its lease, whatever clocks say.
    pub(super) fn check_proposal(&self, by: usize, wants: Option<Proposal>, leases: &Leases) {
        let Some(Proposal::Take(subnet)) = wants else { return };
        let owner = leases.get(&subnet).map(|lease| lease.public_ip);
        let heard_of = owner.filter(|owner| self.alive().contains(owner));
        assert_eq!(heard_of, None, "host {by} wants {subnet} of a host that is alive");
    }

    pub(super) fn check_leases(&mut self, before: &Leases, after: &Leases) {
        let mut owners = BTreeMap::new();
        for (subnet, lease) in after {
            assert_eq!(owners.insert(lease.public_ip, subnet), None, "one lease a host");
        }
        for (subnet, lease) in before {
            if after.get(subnet).is_some_and(|now| now.public_ip == lease.public_ip) {
                continue;
            }
            let free = self.config.subnets().filter(|free| !before.contains_key(free)).count();
            let owner = (0..self.hosts.len()).find(|host| address(*host) == lease.public_ip);
            let silent = owner.map(|owner| self.stage.now() - self.hosts[owner].heard);
            let may = free == 0 && silent.is_none_or(|silent| silent + SLACK >= GIVEN_AWAY);
            assert!(may, "{subnet} of a host silent for {silent:?} goes, {free} others are free");
            if let Some(owner) = owner {
                self.stage.note(format_args!("host {owner} lost its lease"));
                self.hosts[owner].evicted = true;
            }
        }
    }

    pub(super) fn check_all_leased(&self) {
        let (_, leases) = self.stored();
        let all_leased = leases.len() == self.config.subnets().count();
        for (number, host) in self.hosts.iter().enumerate() {
            let own = leases.iter().find(|(_, lease)| lease.public_ip == address(number));
            if own.is_none() && all_leased {
                continue;
            }
            assert!(host.uses.is_some(), "host {number} has a subnet");
            assert_eq!(own.map(|(subnet, _)| *subnet), host.uses, "host {number} uses its lease");
        }
    }
}
