//! Who has which address, and which addresses rest. The caller keeps the book on disk.
//!
//! Addresses are handed out round-robin, so that one that was given back is used as late as
//! possible; besides, no other app gets it before its rest is over, because a router that has not
//! heard of the end yet would send it a stranger's requests. No clock that somebody may set counts: a
//! rest that an earlier daemon began begins again with the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use kit_clock::Mono;
use kit_ids::{AppId, JobId};

/// The addresses a host's jobs get theirs from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The first one a job may have.
    pub first: Ipv4Addr,
    /// The last one.
    pub last: Ipv4Addr,
    /// In between, and not for jobs.
    pub bridge: Ipv4Addr,
}

/// What a job has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Whose it is: jobs of the same app may have it at once afterwards.
    pub app: Option<AppId>,
}

/// Every address of the block is in use or rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no free address: {in_use} in use, {resting} resting after a job of another app")]
pub struct NoAddress {
    /// Addresses that jobs have.
    pub in_use: usize,
    /// Addresses that come back by themselves.
    pub resting: usize,
}

/// An address that was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rest {
    app: Option<AppId>,
    /// None where an earlier daemon took it back.
    since: Option<Mono>,
}

/// The book of a host's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    held: BTreeMap<JobId, Held>,
    resting: BTreeMap<Ipv4Addr, Rest>,
    last: Option<Ipv4Addr>,
}

impl Addresses {
    /// A book as an earlier daemon wrote it: what jobs have, which addresses rest and whose they were, which one
    /// was given last. All rests begin again.
    pub fn read(
        held: impl IntoIterator<Item = (JobId, Held)>,
        resting: impl IntoIterator<Item = (Ipv4Addr, Option<AppId>)>,
        last: Option<Ipv4Addr>,
    ) -> Self {
        let rest = |(ip, app)| (ip, Rest { app, since: None });
        Self {
            held: held.into_iter().collect(),
            resting: resting.into_iter().map(rest).collect(),
            last,
        }
    }

    /// What jobs have.
    pub fn held(&self) -> &BTreeMap<JobId, Held> {
        &self.held
    }

    /// Addresses that rest, and whose they were. Some may be over, until somebody asks for one.
    pub fn resting(&self) -> impl Iterator<Item = (Ipv4Addr, Option<&AppId>)> {
        self.resting.iter().map(|(ip, rest)| (*ip, rest.app.as_ref()))
    }

    /// The address that was given last.
    pub fn last(&self) -> Option<Ipv4Addr> {
        self.last
    }

    /// Gives a job an address: the one it has, or the next free one after the last given.
    pub fn give(
        &mut self,
        job: &JobId,
        app: Option<&AppId>,
        block: Block,
        rest: Duration,
        now: Mono,
    ) -> Result<Ipv4Addr, NoAddress> {
        if let Some(held) = self.held.get(job) {
            return Ok(held.ip);
        }
        self.resting.retain(|_, resting| now.since(*resting.since.get_or_insert(now)) < rest);
        let full = || NoAddress { in_use: self.held.len(), resting: self.resting.len() };
        let ip = self.next_free(app, block).ok_or_else(full)?;
        self.resting.remove(&ip);
        self.last = Some(ip);
        self.held.insert(job.clone(), Held { ip, app: app.cloned() });
        Ok(ip)
    }

    /// Takes a job's address back; it rests from now on.
    pub fn take_back(&mut self, job: &JobId, now: Mono) -> Option<Held> {
        let held = self.held.remove(job)?;
        let rest = Rest { app: held.app.clone(), since: Some(now) };
        self.resting.insert(held.ip, rest);
        Some(held)
    }

    /// The first address after the last one given, wrapping, that nobody has and that does not rest
    /// for another app.
    fn next_free(&self, app: Option<&AppId>, block: Block) -> Option<Ipv4Addr> {
        let (first, end) = (u32::from(block.first), u32::from(block.last));
        let last = self.last.map(u32::from).filter(|last| (first..=end).contains(last));
        let start = last.map_or(first, |last| last + 1);
        let taken: BTreeSet<_> = self.held.values().map(|held| held.ip).collect();
        let free = |ip: &Ipv4Addr| {
            let rest = self.resting.get(ip);
            let own = |rest: &Rest| app.is_some() && rest.app.as_ref() == app;
            *ip != block.bridge && !taken.contains(ip) && rest.is_none_or(own)
        };
        (start..=end).chain(first..start).map(Ipv4Addr::from).find(free)
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

    /// So many addresses, the first of which is the bridge's.
    fn block(size: u8) -> Block {
        let ip = |end| Ipv4Addr::new(10, 0, 0, end);
        Block { first: ip(1), last: ip(size), bridge: ip(1) }
    }

    fn give(book: &mut Addresses, number: usize, owner: u8, size: u8, now: u64) -> Option<u8> {
        let given = book.give(&job(number), Some(&app(owner)), block(size), REST, at(now));
        given.ok().map(|ip| ip.octets()[3])
    }

    #[test]
    fn addresses_go_round_and_skip_the_bridge() {
        let mut book = Addresses::default();
        let given: Vec<_> = (0..6).filter_map(|n| give(&mut book, n, 1, 6, 0)).collect();
        assert_eq!(given, [2, 3, 4, 5, 6]);
        let full = book.give(&job(9), Some(&app(1)), block(6), REST, at(0)).unwrap_err();
        assert_eq!((full.in_use, full.resting), (5, 0));
        book.take_back(&job(1), at(0));
        assert_eq!(give(&mut book, 10, 1, 6, 0), Some(3), "it wraps");
    }

    #[test]
    fn what_was_given_last_in_another_block_does_not_count() {
        let mut book = Addresses::read([], [], Some(Ipv4Addr::new(10, 9, 9, 9)));
        assert_eq!(give(&mut book, 1, 1, 6, 0), Some(2));
    }

    #[test]
    fn asking_twice_gives_the_same_address() {
        let mut book = Addresses::default();
        let first = give(&mut book, 1, 1, 6, 0);
        assert_eq!(give(&mut book, 1, 1, 6, 5), first);
    }

    #[test]
    fn an_address_rests_before_a_stranger_gets_it() {
        let mut book = Addresses::default();
        give(&mut book, 1, 1, 2, 0);
        book.take_back(&job(1), at(10));
        assert_eq!(give(&mut book, 2, 2, 2, 69), None, "59 s are too short");
        assert!(give(&mut book, 3, 1, 2, 11).is_some(), "its own app may");
        book.take_back(&job(3), at(20));
        assert!(give(&mut book, 2, 2, 2, 80).is_some());
    }

    #[test]
    fn a_rest_begins_again_with_the_next_daemon() {
        let mut book = Addresses::default();
        give(&mut book, 1, 1, 2, 500);
        book.take_back(&job(1), at(500));
        let written = book.resting().map(|(ip, app)| (ip, app.cloned()));
        let mut book = Addresses::read([], written.collect::<Vec<_>>(), book.last());
        assert_eq!(give(&mut book, 2, 2, 2, 1), None);
        assert_eq!(give(&mut book, 2, 2, 2, 60), None);
        assert!(give(&mut book, 2, 2, 2, 61).is_some());
    }

    proptest! {
        #[test]
        fn no_two_jobs_share_an_address_and_strangers_wait(
            steps in prop::collection::vec((0_usize..12, 1_u8..4, any::<bool>(), 0_u64..40), 1..120),
        ) {
            let (mut book, mut now) = (Addresses::default(), 0);
            let mut given_back: BTreeMap<Ipv4Addr, (AppId, u64)> = BTreeMap::new();
            for (number, owner, take, wait) in steps {
                now += wait;
                if !take {
                    if let Some(held) = book.take_back(&job(number), at(now)) {
                        given_back.insert(held.ip, (held.app.unwrap(), now));
                    }
                    continue;
                }
                let had = book.held().contains_key(&job(number));
                let Some(given) = give(&mut book, number, owner, 6, now) else { continue };
                prop_assert!((2..=6).contains(&given));
                let held = &book.held()[&job(number)];
                if let Some((before, since)) = given_back.get(&held.ip).filter(|_| !had) {
                    prop_assert!(*before == app(owner) || now - since >= 60);
                }
                let mut all: Vec<_> = book.held().values().map(|held| held.ip).collect();
                all.sort();
                all.dedup();
                prop_assert_eq!(all.len(), book.held().len());
            }
        }
    }
}
