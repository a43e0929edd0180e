//! One host: its rounds from reading all leases to a subnet that its disk remembers.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use discoverd_registry::{Command, LogIndex};
use netplan::{Acquisition, Block, Lease, Leases, Proposal, Retry};

use super::text::{parse, text};
use super::{Event, SERVICE, World, address, lease, service};
use crate::{Disk, NodeClock, Random};

/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Host {
    up: bool,
    pub(super) frozen: bool,
    pub(super) waiting: Vec<Event>,
    boot: u64,
    /// Counts rounds over all boots; an answer to an earlier one is not for this one.
    round: u64,
    races: Option<Acquisition>,
    disk: Disk<Option<Block>>,
    /// What its jobs run in.
    pub(super) uses: Option<Block>,
    /// The first it ever used.
    first: Option<Block>,
    /// When its lease last said that it is there.
    pub(super) heard: Duration,
    /// How many rounds in a row came to nothing.
    failures: u32,
    pub(super) clock: NodeClock,
    /// Its lease was given away, and it has not settled since.
    pub(super) evicted: bool,
}

impl Host {
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            up: true,
            frozen: false,
            waiting: Vec::new(),
            boot: 0,
            round: 0,
            races: None,
            disk: Disk::default(),
            uses: None,
            first: None,
            heard: Duration::ZERO,
            failures: 0,
            clock: NodeClock::new(random),
            evicted: false,
        }
    }
}

impl World {
    fn store(&self) -> usize {
        self.hosts.len()
    }

    pub(super) fn begin_round(&mut self, number: usize, after: u64) {
        let host = &mut self.hosts[number];
        if !host.up || host.round != after {
            return;
        }
        let host = &mut self.hosts[number];
        let patience = (PATIENCE * (1 << host.failures.min(16))).min(self.recheck);
        host.failures += 1;
        let round = self.next_round(number, patience);
        if !self.hosts[number].frozen {
            let store = self.store();
            self.stage.send(number, store, || Event::Read { host: number, round });
        }
    }

    /// Ends a round; the next begins after a pause.
    fn next_round(&mut self, number: usize, pause: Duration) -> u64 {
        let host = &mut self.hosts[number];
        host.round += 1;
        let after = host.round;
        let jitter = self.stage.random.millis(0, 200);
        self.stage.after(pause + jitter, Event::Round { host: number, after });
        after
    }

    pub(super) fn read(&mut self, host: usize, round: u64) {
        let (index, leases) = if self.stage.random.chance(15) && !self.stage.is_calm() {
            self.old.clone()
        } else {
            self.stored()
        };
        if self.stage.random.chance(50) {
            self.old = self.stored();
        }
        let store = self.store();
        let answer = || Event::Answer { host, round, index, leases: leases.clone() };
        self.stage.send(store, host, answer);
    }

    pub(super) fn stored(&self) -> (LogIndex, Leases) {
        self.registry
            .meta(SERVICE)
            .map_or((LogIndex::ZERO, Leases::new()), |meta| (meta.index, parse(&meta.data)))
    }

    pub(super) fn propose(
        &mut self,
        number: usize,
        round: u64,
        expected: LogIndex,
        mut leases: Leases,
    ) {
        let (seed, config) = (self.stage.random.number(), self.config);
        let host = &mut self.hosts[number];
        if !host.up || host.round != round {
            return;
        }
        let now = self.stage.now();
        let (remembered, wall) = (*host.disk.read(), host.clock.wall(now));
        let new = || Acquisition::new(config, address(number), remembered, seed);
        let acquisition = host.races.get_or_insert_with(new);
        let proposal = acquisition.propose(&leases);
        let acquisition = acquisition.clone();
        let proposal = proposal.ok().or_else(|| acquisition.reclaim(&leases, &self.alive(), wall));
        self.stage.note(format_args!("host {number}: {proposal:?} of {leases:?}"));
        self.check_proposal(number, proposal, &leases);
        let (subnet, renews) = match proposal {
            // It tries again when its next round comes.
            None => return,
            Some(Proposal::Keep(subnet)) => (subnet, leases[&subnet].is_due(wall)),
            Some(Proposal::Take(subnet)) => (subnet, true),
        };
        if !renews {
            self.hosts[number].heard = now;
            return self.settle(number, subnet);
        }
        leases.insert(subnet, Lease { seen: Some(wall), ..lease(number) });
        let store = self.store();
        let write =
            || Event::Write { host: number, round, expected, leases: leases.clone(), subnet };
        self.stage.send(number, store, write);
    }

    /// Hosts that discovery has heard of just now.
    pub(super) fn alive(&self) -> BTreeSet<Ipv4Addr> {
        let heard = |number: &usize| {
            let host = &self.hosts[*number];
            host.up && !host.frozen && self.stage.network.reaches(*number, self.store())
        };
        (0..self.hosts.len()).filter(heard).map(address).collect()
    }

    pub(super) fn write(
        &mut self,
        host: usize,
        round: u64,
        expected: LogIndex,
        leases: &Leases,
        subnet: Block,
    ) {
        let (_, before) = self.stored();
        let at = LogIndex(self.registry.applied().0 + 1);
        let command = Command::SetMeta {
            service: service(),
            data: text(leases).into(),
            expected,
            leader: None,
        };
        let (result, _) = self.registry.apply(command, at);
        let stored = result.is_ok();
        if stored {
            self.stage.note(format_args!("{at}: {leases:?}"));
            self.check_leases(&before, leases);
            self.hosts[host].heard = self.stage.now();
        }
        let store = self.store();
        self.stage.send(store, host, || Event::Written { host, round, stored, subnet });
    }

    pub(super) fn written(&mut self, number: usize, round: u64, stored: bool, subnet: Block) {
        let host = &mut self.hosts[number];
        if !host.up || host.round != round {
            return;
        }
        if stored {
            return self.settle(number, subnet);
        }
        let retry = host.races.as_mut().map_or(Retry::AtOnce, Acquisition::lost_race);
        let pause = match retry {
            Retry::AtOnce => Duration::ZERO,
            Retry::After(pause) => pause,
        };
        self.next_round(number, pause);
    }

    /// Disk first, then the host is told.
    fn settle(&mut self, number: usize, subnet: Block) {
        let host = &mut self.hosts[number];
        (host.races, host.failures) = (None, 0);
        host.disk.write(Some(subnet));
        let boot = host.boot;
        let takes = self.stage.random.millis(1, 300);
        self.stage.after(takes, Event::Saved { host: number, boot, subnet });
        self.next_round(number, self.recheck);
    }

    pub(super) fn use_subnet(&mut self, number: usize, boot: u64, subnet: Block) {
        let host = &mut self.hosts[number];
        if !host.up || host.boot != boot || *host.disk.read() != Some(subnet) {
            return;
        }
        host.disk.sync();
        if std::mem::take(&mut host.evicted) {
            host.first = None;
        }
        host.uses = Some(subnet);
        let first = *host.first.get_or_insert(subnet);
        assert_eq!(subnet, first, "host {number} keeps its subnet");
        self.stage.note(format_args!("host {number} uses {subnet}"));
        self.check_uses();
    }

    pub(super) fn power_cut(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        (host.up, host.frozen, host.uses, host.races) = (false, false, None, None);
        host.waiting.clear();
        host.boot += 1;
        host.round += 1;
        host.disk.crash(&mut self.stage.random);
    }

    /// A host that booted uses what it remembers, before it has heard of anybody.
    pub(super) fn power_back(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        if host.up {
            return;
        }
        (host.up, host.uses, host.failures) = (true, *host.disk.read(), 0);
        let first = host.first.or(host.uses);
        assert_eq!(host.uses, first, "host {number} remembers");
        host.first = first;
        self.next_round(number, Duration::ZERO);
        self.check_uses();
    }

    pub(super) fn wake(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.frozen = false;
        for event in std::mem::take(&mut host.waiting) {
            self.stage.after(Duration::ZERO, event);
        }
    }
}
