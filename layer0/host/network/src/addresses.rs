//! The book of a host's addresses as it is written down: who has which and what the firewall must know of
//! them. What is given to whom [`host_job::Addresses`] decides.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use host_job::{Addresses as Book, Held};
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
#[serde(from = "Written", into = "Written")]
pub(crate) struct Addresses {
    book: Book,
    /// Of every job in the book.
    leases: BTreeMap<JobId, Lease>,
}

/// How it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Written {
    leases: BTreeMap<JobId, Lease>,
    resting: BTreeMap<Ipv4Addr, Rest>,
    last: Option<Ipv4Addr>,
}

#[derive(Serialize, Deserialize)]
struct Rest {
    app: Option<AppId>,
}

impl From<Written> for Addresses {
    fn from(Written { leases, resting, last }: Written) -> Self {
        let held = |lease: &Lease| Held { ip: lease.ip, app: lease.app.clone() };
        let held = leases.iter().map(|(job, lease)| (job.clone(), held(lease)));
        let resting = resting.into_iter().map(|(ip, rest)| (ip, rest.app));
        let book = Book::read(held, resting, last);
        Self { book, leases }
    }
}

impl From<Addresses> for Written {
    fn from(Addresses { book, leases }: Addresses) -> Self {
        let resting = book.resting().map(|(ip, app)| (ip, Rest { app: app.cloned() })).collect();
        Self { leases, resting, last: book.last() }
    }
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
        let (job, app) = (&request.job, request.app.clone());
        let ip = self.book.give(job, app.as_ref(), subnet.for_jobs(), rest, now);
        let ip = ip.map_err(|full| NoAddress {
            block: subnet.block(),
            in_use: full.in_use,
            resting: full.resting,
        })?;
        let allow = request.allow.iter().copied().collect();
        let for_builds = request.for_builds.iter().copied().collect();
        let lease = Lease { ip, partition: request.partition, app, allow, for_builds };
        self.leases.insert(job.clone(), lease.clone());
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
        self.book.take_back(job, now);
        self.leases.remove(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    fn request(number: usize, owner: u8) -> JobRequest {
        let app = format!("00000000-0000-4000-8000-0000000000{owner:02x}").parse().unwrap();
        let job = format!("host1-{number}").parse().unwrap();
        JobRequest::new(job, Partition::User).of_app(app)
    }

    #[test]
    fn a_full_subnet_says_so_and_its_ends_are_nobodys() {
        let (mut book, subnet) = (Addresses::default(), "10.0.0.1/29".parse().unwrap());
        let given: Vec<_> = (0..5)
            .map(|n| book.lease(&request(n, 1), subnet, REST, at(0)).unwrap().ip.octets()[3])
            .collect();
        assert_eq!(given, [2, 3, 4, 5, 6]);
        let full = book.lease(&request(9, 1), subnet, REST, at(0)).unwrap_err();
        assert_eq!(
            full.to_string(),
            "no free address in 10.0.0.0/29: 5 in use, 0 resting after a job of another app"
        );
    }

    #[test]
    fn what_an_earlier_daemon_wrote_is_read() {
        let subnet = "10.0.0.1/30".parse().unwrap();
        let written = r#"{
            "leases": {},
            "resting": {"10.0.0.2": {"app": "00000000-0000-4000-8000-000000000001"}},
            "last": "10.0.0.2"
        }"#;
        let mut book: Addresses = serde_json::from_str(written).unwrap();
        let again = serde_json::to_value(&book).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(written).unwrap());
        assert!(book.lease(&request(2, 2), subnet, REST, at(1)).is_err());
        assert!(book.lease(&request(2, 2), subnet, REST, at(60)).is_err(), "its rest began at 1");
        let lease = book.lease(&request(2, 2), subnet, REST, at(61)).unwrap();
        let written = serde_json::to_string(&book).unwrap();
        let mut book: Addresses = serde_json::from_str(&written).unwrap();
        assert_eq!(book.lease(&request(2, 2), subnet, REST, at(0)).unwrap(), lease);
        assert!(book.lease(&request(3, 3), subnet, REST, at(0)).is_err());
    }
}
