//! Who has which address, and which addresses rest. Pure: the caller brings the time and keeps the
//! book on disk.
//!
//! Addresses are handed out round-robin, so that one that was given back is used as late as
//! possible; besides, no other app gets it before its rest is over, because a router that has not
//! heard of the end yet would send it a stranger's requests. No clock that somebody may set counts: a
//! rest that an earlier daemon began begins again with the next one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use kit_clock::Mono;
use kit_ids::{AppId, JobId};
use serde::{Deserialize, Serialize};

use crate::job::{Endpoint, JobRequest, Partition};
use crate::subnet::Subnet;

/// A job's address and what the firewall must know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) ip: Ipv4Addr,
    pub(crate) partition: Partition,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) app: Option<AppId>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) allow: Vec<Endpoint>,
    /// Ports open to builds.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) for_builds: Vec<u16>,
}

/// An address that was given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rest {
    app: Option<AppId>,
    /// None where an earlier daemon took it back.
    #[serde(skip)]
    since: Option<Mono>,
}

/// Every address of the subnet is in use or rests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no free address in {block}: {in_use} in use, {resting} resting after a job of another app"
)]
pub struct NoAddress {
    /// The subnet.
    pub block: String,
    /// Addresses that jobs have.
    pub in_use: usize,
    /// Addresses that come back by themselves.
    pub resting: usize,
}

/// The book of a host's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Addresses {
    leases: BTreeMap<JobId, Lease>,
    resting: BTreeMap<Ipv4Addr, Rest>,
    last: Option<Ipv4Addr>,
}

impl Addresses {
    pub(crate) fn leases(&self) -> &BTreeMap<JobId, Lease> {
        &self.leases
    }

    /// Gives a job an address: the one it has, or the next free one after the last given.
    pub(crate) fn lease(
        &mut self,
        request: &JobRequest,
        subnet: Subnet,
        rest: Duration,
        now: Mono,
    ) -> Result<Lease, NoAddress> {
        if let Some(lease) = self.leases.get(&request.job) {
            return Ok(lease.clone());
        }
        self.resting.retain(|_, resting| now.since(*resting.since.get_or_insert(now)) < rest);
        let ip = self.next_free(request.app.as_ref(), subnet).ok_or_else(|| NoAddress {
            block: subnet.block(),
            in_use: self.leases.len(),
            resting: self.resting.len(),
        })?;
        self.resting.remove(&ip);
        self.last = Some(ip);
        let allow = request.allow.iter().copied().collect();
        let for_builds = request.for_builds.iter().copied().collect();
        let (partition, app) = (request.partition, request.app.clone());
        let lease = Lease { ip, partition, app, allow, for_builds };
        self.leases.insert(request.job.clone(), lease.clone());
        Ok(lease)
    }

    /// Replaces what a job may reach beyond its partition; gives the lease before and after.
    pub(crate) fn allow(&mut self, job: &JobId, allow: Vec<Endpoint>) -> Option<(Lease, Lease)> {
        let lease = self.leases.get_mut(job)?;
        let before = lease.clone();
        lease.allow = allow;
        Some((before, lease.clone()))
    }

    /// Takes a job's address back; it rests from now on.
    pub(crate) fn release(&mut self, job: &JobId, now: Mono) -> Option<Lease> {
        let lease = self.leases.remove(job)?;
        let rest = Rest { app: lease.app.clone(), since: Some(now) };
        self.resting.insert(lease.ip, rest);
        Some(lease)
    }

    /// The first address after the last one given, wrapping, that nobody has and that does not rest
    /// for another app.
    fn next_free(&self, app: Option<&AppId>, subnet: Subnet) -> Option<Ipv4Addr> {
        let (first, end) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
        let size = end - first;
        let in_subnet = |ip: &Ipv4Addr| subnet.contains(*ip);
        let start = self.last.filter(in_subnet).map_or(0, |last| u32::from(last) - first);
        let taken: std::collections::BTreeSet<_> = self.leases.values().map(|l| l.ip).collect();
        let free = |ip: &Ipv4Addr| {
            let rest = self.resting.get(ip);
            let own = |rest: &Rest| app.is_some() && rest.app.as_ref() == app;
            subnet.is_for_jobs(*ip) && !taken.contains(ip) && rest.is_none_or(own)
        };
        (1..=size).map(|step| Ipv4Addr::from(first + (start + step) % size)).find(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REST: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    fn job(number: usize) -> JobId {
        format!("host1-{number}").parse().unwrap()
    }

    fn app(number: u8) -> AppId {
        format!("00000000-0000-4000-8000-0000000000{number:02x}").parse().unwrap()
    }

    fn request(number: usize, owner: u8) -> JobRequest {
        JobRequest::new(job(number), Partition::User).of_app(app(owner))
    }

    fn small() -> Subnet {
        "10.0.0.1/29".parse().unwrap()
    }

    #[test]
    fn addresses_go_round_and_skip_the_bridge_and_the_ends() {
        let mut book = Addresses::default();
        let given: Vec<_> = (0..5)
            .map(|n| book.lease(&request(n, 1), small(), REST, at(0)).unwrap().ip.octets()[3])
            .collect();
        assert_eq!(given, [2, 3, 4, 5, 6]);
        let full = book.lease(&request(9, 1), small(), REST, at(0)).unwrap_err();
        assert_eq!(
            full.to_string(),
            "no free address in 10.0.0.0/29: 5 in use, 0 resting after a job of another app"
        );
    }

    #[test]
    fn asking_twice_gives_the_same_address() {
        let mut book = Addresses::default();
        let first = book.lease(&request(1, 1), small(), REST, at(0)).unwrap();
        assert_eq!(book.lease(&request(1, 1), small(), REST, at(5)).unwrap(), first);
    }

    #[test]
    fn an_address_rests_before_a_stranger_gets_it() {
        let mut book = Addresses::default();
        let tiny: Subnet = "10.0.0.1/30".parse().unwrap();
        book.lease(&request(1, 1), tiny, REST, at(0)).unwrap();
        book.release(&job(1), at(10));
        assert!(book.lease(&request(2, 2), tiny, REST, at(69)).is_err(), "59 s are too short");
        assert!(book.lease(&request(3, 1), tiny, REST, at(11)).is_ok(), "its own app may");
        book.release(&job(3), at(20));
        assert!(book.lease(&request(2, 2), tiny, REST, at(80)).is_ok());
    }

    #[test]
    fn a_rest_begins_again_with_the_next_daemon() {
        let mut book = Addresses::default();
        let tiny: Subnet = "10.0.0.1/30".parse().unwrap();
        book.lease(&request(1, 1), tiny, REST, at(500)).unwrap();
        book.release(&job(1), at(500));
        let written = serde_json::to_string(&book).unwrap();
        let mut book: Addresses = serde_json::from_str(&written).unwrap();
        assert!(book.lease(&request(2, 2), tiny, REST, at(1)).is_err());
        assert!(book.lease(&request(2, 2), tiny, REST, at(60)).is_err());
        assert!(book.lease(&request(2, 2), tiny, REST, at(61)).is_ok());
    }

    proptest! {
        #[test]
        fn no_two_jobs_share_an_address_and_strangers_wait(
            steps in prop::collection::vec((0_usize..12, 1_u8..4, any::<bool>(), 0_u64..40), 1..120),
        ) {
            let (mut book, mut now) = (Addresses::default(), 0);
            let mut given_back: BTreeMap<Ipv4Addr, (u8, u64)> = BTreeMap::new();
            let mut owners: BTreeMap<usize, u8> = BTreeMap::new();
            for (number, owner, take, wait) in steps {
                now += wait;
                if !take {
                    if let Some(lease) = book.release(&job(number), at(now)) {
                        given_back.insert(lease.ip, (owners[&number], now));
                    }
                    continue;
                }
                let had = book.leases().contains_key(&job(number));
                let Ok(lease) = book.lease(&request(number, owner), small(), REST, at(now)) else { continue };
                prop_assert!(small().is_for_jobs(lease.ip));
                if !had {
                    owners.insert(number, owner);
                    if let Some((before, since)) = given_back.get(&lease.ip) {
                        prop_assert!(*before == owner || now - since >= 60);
                    }
                }
                let mut all: Vec<_> = book.leases().values().map(|lease| lease.ip).collect();
                all.sort();
                all.dedup();
                prop_assert_eq!(all.len(), book.leases().len());
            }
        }
    }
}
