//! Knows everything that happened, and fails the run at the first broken promise.

use std::collections::BTreeMap;
use std::time::Duration;

use discoverd_registry::{Answer, Command, LeaseConfig, LogIndex, Refusal};
use kit_clock::Mono;

use super::client::Client;
use super::consensus::Entry;
use super::requests::value_of;
use super::{STORM, client_id};

/// Who proposed an entry, in which term, and when by its own clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) by: usize,
    pub(super) term: u64,
    pub(super) ordered: Mono,
}

#[derive(Debug, Default)]
pub(super) struct Monitor {
    /// When each leader's leases began, by its own clock.
    elected: BTreeMap<(usize, u64), Mono>,
    /// When each leader last took a sign of life of an instance, by its own clock.
    heard: BTreeMap<(usize, u64, String), Mono>,
    /// When signs of life came to a leader that stood still, by its own clock.
    waited: BTreeMap<(usize, u64, String), Vec<Mono>>,
    /// Every count that was stored: its index, value, client and token.
    counts: Vec<(LogIndex, String)>,
}

impl Monitor {
    pub(super) fn elected(&mut self, server: usize, term: u64, now: Mono) {
        self.elected.insert((server, term), now);
    }

    /// A server that leads this term, if any, took a sign of life, out of its log or past it.
    pub(super) fn heard(&mut self, server: usize, term: Option<u64>, id: &str, now: Mono) {
        let Some(term) = term else { return };
        self.heard.insert((server, term, id.to_owned()), now);
    }

    /// A sign of life waits to be read by a leader.
    pub(super) fn waits(&mut self, server: usize, term: u64, client: usize, now: Mono) {
        let key = (server, term, client_id(client).as_str().to_owned());
        self.waited.entry(key).or_default().push(now);
    }

    pub(super) fn applied(
        &mut self,
        entry: &Entry,
        at: LogIndex,
        result: &Result<Answer, Refusal>,
    ) {
        let (Command::SetMeta { data, .. }, Ok(answer)) = (&entry.command, result) else { return };
        assert_eq!(*answer, Answer::MetaStored(at), "a count is stored under its own index");
        let (last, before) =
            self.counts.last().map_or((LogIndex::ZERO, 0), |(at, text)| (*at, value_of(text)));
        assert!(at > last, "index {at} after {last}");
        assert_eq!(value_of(data), before + 1, "the count follows the one before: none is lost");
        self.counts.push((at, data.to_string()));
    }

    /// An instance goes: rightly, if it left or its leader had reason enough.
    pub(super) fn down(&self, entry: &Entry, id: &str) {
        let Command::Expire { .. } = entry.command else { return };
        let (ttl, Origin { by, term, ordered }) = (LeaseConfig::default().ttl, entry.origin);
        let elected = self.elected.get(&(by, term)).copied();
        let led = elected.map(|elected| ordered.since(elected));
        assert!(
            led.is_some_and(|led| led >= ttl),
            "{id} expires after server {by} led for {led:?}"
        );
        let key = (by, term, id.to_owned());
        let heard = self.heard.get(&key).copied();
        if let Some(heard) = heard {
            let silent = ordered.since(heard);
            assert!(silent >= ttl, "{id} expires; server {by} had heard of it {silent:?} before");
        }
        let Some(seen) = heard.or(elected) else { return };
        let waited = self.waited.get(&key).into_iter().flatten();
        let unread = waited.filter(|came| **came <= ordered && **came > seen);
        let in_time = unread.filter(|came| came.since(seen) < ttl).max();
        assert_eq!(in_time, None, "{id} expires; a sign of life waited, ordered at {ordered:?}");
    }

    /// All acknowledged counts are there, and counting went on in the end.
    pub(super) fn check_counts(&self, clients: &[Client], now: Duration) {
        // One may lose every race; somebody wins each.
        let last = clients.iter().filter_map(Client::counted).map(|(_, last)| last).max();
        assert!(
            last.is_some_and(|last| last + STORM.settles / 2 > now),
            "counted last at {last:?}"
        );
        for (number, client) in clients.iter().enumerate() {
            let Some((acknowledged, _)) = client.counted() else { continue };
            for token in acknowledged {
                let wanted = format!(" {number} {token}");
                let times = self.counts.iter().filter(|(_, text)| text.ends_with(&wanted)).count();
                assert_eq!(times, 1, "count {token} of client {number} was acknowledged");
            }
        }
    }
}
