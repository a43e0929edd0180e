//! Overlay leases: hosts that come to their subnets by the real [`Acquisition`], written by
//! compare-and-swap into the real registry, read from copies that may be old.
//!
//! Promised at every moment: no two hosts use overlapping subnets; a host that has used a subnet uses
//! no other one, restarts or not; a lease goes to another host only after seven days of silence (less
//! [`check::SLACK`]) and when no subnet is free, and only a host that lost its lease so may meet another
//! in its subnet, until it hears of it. Promised a while after the last fault: every host has the subnet
//! its lease says.
//!
//! Every fourth seed plays for weeks, with more hosts than subnets and faults of days.

mod check;
mod text;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use discoverd_registry::{Command, Election, LogIndex, Name, Registry};
use netplan::{Acquisition, Backend, Block, Config, ConfigInput, Lease, Leases, Proposal, Retry};

use self::text::{parse, text};
use crate::{Agenda, Disk, Fault, Network, NodeClock, Random, Trace, draw_fault};

/// How often hosts look at the leases; all other times of a run are multiples of it.
const RECHECK: Duration = Duration::from_secs(20);
/// The same in a run of weeks.
const RECHECK_SLOWLY: Duration = Duration::from_secs(2 * 3600);
/// How many such times things go wrong.
const STORM: u32 = 400;
/// How many later every host has its subnet.
const SETTLES: u32 = 4;
/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
const SERVICE: &str = "flannel";

#[derive(Debug)]
enum Event {
    /// A host's next round, unless it had another since.
    Round {
        host: usize,
        after: u64,
    },
    Read {
        host: usize,
        round: u64,
    },
    Answer {
        host: usize,
        round: u64,
        index: LogIndex,
        leases: Leases,
    },
    Write {
        host: usize,
        round: u64,
        expected: LogIndex,
        leases: Leases,
        subnet: Block,
    },
    Written {
        host: usize,
        round: u64,
        stored: bool,
        subnet: Block,
    },
    Saved {
        host: usize,
        boot: u64,
        subnet: Block,
    },
    Fault,
    Undo(Fault),
    Calm,
    End,
}

#[derive(Debug)]
struct Host {
    up: bool,
    frozen: bool,
    waiting: Vec<Event>,
    boot: u64,
    /// Counts rounds over all boots; an answer to an earlier one is not for this one.
    round: u64,
    races: Option<Acquisition>,
    disk: Disk<Option<Block>>,
    /// What its jobs run in.
    uses: Option<Block>,
    /// The first it ever used.
    first: Option<Block>,
    /// When its lease last said that it is there.
    heard: Duration,
    /// How many rounds in a row came to nothing.
    failures: u32,
    clock: NodeClock,
    /// Its lease was given away, and it has not settled since.
    evicted: bool,
}

impl Host {
    fn new(random: &mut Random) -> Self {
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

struct World {
    agenda: Agenda<Event>,
    random: Random,
    network: Network,
    trace: Trace,
    config: Config,
    hosts: Vec<Host>,
    registry: Registry,
    /// What followers that are behind still answer.
    old: (LogIndex, Leases),
    /// When a host looks at the leases though nobody said that they changed.
    recheck: Duration,
    calm: bool,
}

/// One run.
pub fn run(seed: u64, trace: &Trace) {
    let mut world = World::new(seed, trace.clone());
    while let Some(event) = world.agenda.next_event() {
        if matches!(event, Event::End) {
            return world.check_settled();
        }
        world.handle(event);
    }
}

impl World {
    fn new(seed: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let (hosts, slowly) = (2 + random.below(7), seed % 4 == 3);
        let subnets = if slowly { hosts - 1 } else { hosts + random.below(3) };
        let recheck = if slowly { RECHECK_SLOWLY } else { RECHECK };
        let mut registry = Registry::new();
        let add = Command::AddService { service: service(), election: Election::Oldest };
        let (added, _) = registry.apply(add, LogIndex(1));
        assert!(added.is_ok());
        let mut world = Self {
            agenda: Agenda::default(),
            network: Network::bad(&mut random),
            config: config(subnets),
            hosts: (0..hosts).map(|_| Host::new(&mut random)).collect(),
            registry,
            old: (LogIndex::ZERO, Leases::new()),
            random,
            trace,
            recheck,
            calm: false,
        };
        for host in 0..hosts {
            let start = world.random.millis(0, 300);
            world.agenda.after(start, Event::Round { host, after: 0 });
        }
        world.agenda.after(Duration::from_secs(2), Event::Fault);
        world.agenda.after(recheck * STORM, Event::Calm);
        world.agenda.after(recheck * (STORM + SETTLES), Event::End);
        world
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Answer { host, .. } | Event::Written { host, .. } if self.hosts[host].frozen => {
                self.hosts[host].waiting.push(event);
            }
            Event::Round { host, after } => self.begin_round(host, after),
            Event::Read { host, round } => self.read(host, round),
            Event::Answer { host, round, index, leases } => {
                self.propose(host, round, index, leases)
            }
            Event::Write { host, round, expected, leases, subnet } => {
                self.write(host, round, expected, &leases, subnet);
            }
            Event::Written { host, round, stored, subnet } => {
                self.written(host, round, stored, subnet);
            }
            Event::Saved { host, boot, subnet } => self.use_subnet(host, boot, subnet),
            Event::Fault => self.fault(),
            Event::Undo(fault) => self.undo(&fault),
            Event::Calm => {
                self.calm = true;
                self.network.calm();
                (0..self.hosts.len()).for_each(|host| self.revive(host));
            }
            Event::End => {}
        }
    }

    fn store(&self) -> usize {
        self.hosts.len()
    }

    fn send(&mut self, from: usize, to: usize, message: impl Fn() -> Event) {
        for delay in self.network.send(from, to, &mut self.random) {
            self.agenda.after(delay, message());
        }
    }

    fn begin_round(&mut self, number: usize, after: u64) {
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
            self.send(number, store, || Event::Read { host: number, round });
        }
    }

    /// Ends a round; the next begins after a pause.
    fn next_round(&mut self, number: usize, pause: Duration) -> u64 {
        let host = &mut self.hosts[number];
        host.round += 1;
        let after = host.round;
        let jitter = self.random.millis(0, 200);
        self.agenda.after(pause + jitter, Event::Round { host: number, after });
        after
    }

    fn read(&mut self, host: usize, round: u64) {
        let (index, leases) =
            if self.random.chance(15) && !self.calm { self.old.clone() } else { self.stored() };
        if self.random.chance(50) {
            self.old = self.stored();
        }
        let store = self.store();
        let answer = || Event::Answer { host, round, index, leases: leases.clone() };
        self.send(store, host, answer);
    }

    fn stored(&self) -> (LogIndex, Leases) {
        self.registry
            .meta(SERVICE)
            .map_or((LogIndex::ZERO, Leases::new()), |meta| (meta.index, parse(&meta.data)))
    }

    fn propose(&mut self, number: usize, round: u64, expected: LogIndex, mut leases: Leases) {
        let (seed, config) = (self.random.number(), self.config);
        let host = &mut self.hosts[number];
        if !host.up || host.round != round {
            return;
        }
        let now = self.agenda.now();
        let (remembered, wall) = (*host.disk.read(), host.clock.wall(now));
        let new = || Acquisition::new(config, address(number), remembered, seed);
        let acquisition = host.races.get_or_insert_with(new);
        let proposal = acquisition.propose(&leases);
        let acquisition = acquisition.clone();
        let proposal = proposal.ok().or_else(|| acquisition.reclaim(&leases, &self.alive(), wall));
        self.trace.note(now, format_args!("host {number}: {proposal:?} of {leases:?}"));
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
        self.send(number, store, write);
    }

    /// Hosts that discovery has heard of just now.
    fn alive(&self) -> BTreeSet<Ipv4Addr> {
        let heard = |number: &usize| {
            let host = &self.hosts[*number];
            host.up && !host.frozen && self.network.reaches(*number, self.store())
        };
        (0..self.hosts.len()).filter(heard).map(address).collect()
    }

    fn write(
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
            self.trace.note(self.agenda.now(), format_args!("{at}: {leases:?}"));
            self.check_leases(&before, leases);
            self.hosts[host].heard = self.agenda.now();
        }
        let store = self.store();
        self.send(store, host, || Event::Written { host, round, stored, subnet });
    }

    fn written(&mut self, number: usize, round: u64, stored: bool, subnet: Block) {
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
        self.agenda.after(self.random.millis(1, 300), Event::Saved { host: number, boot, subnet });
        self.next_round(number, self.recheck);
    }

    fn use_subnet(&mut self, number: usize, boot: u64, subnet: Block) {
        let now = self.agenda.now();
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
        self.trace.note(now, format_args!("host {number} uses {subnet}"));
        self.check_uses();
    }

    fn fault(&mut self) {
        if self.calm {
            return;
        }
        let hosts = self.hosts.len();
        let (fault, lasts) = draw_fault(&mut self.random, hosts, hosts + 1);
        // In a run of weeks a fault of half a minute becomes one of ten days.
        let slower = if self.recheck == RECHECK { 1 } else { 25_000 };
        let lasts = lasts * slower;
        self.trace.note(self.agenda.now(), format_args!("fault {fault:?} for {lasts:?}"));
        fault.apply(&mut self.network, true);
        match &fault {
            Fault::Crash(number) => {
                let host = &mut self.hosts[*number];
                (host.up, host.uses, host.races) = (false, None, None);
                host.boot += 1;
                host.round += 1;
                host.disk.crash(&mut self.random);
            }
            Fault::Freeze(number) => self.hosts[*number].frozen = true,
            Fault::Jump(number) => {
                let hour = Duration::from_secs(3600);
                let ahead = if self.random.chance(50) { hour } else { Duration::ZERO };
                self.hosts[*number].clock.jump(ahead, hour - ahead);
            }
            Fault::Cut(_) => {}
        }
        self.agenda.after(lasts, Event::Undo(fault));
        let pause = self.random.millis(100, 8000) * slower;
        self.agenda.after(pause, Event::Fault);
    }

    fn undo(&mut self, fault: &Fault) {
        if self.calm {
            return;
        }
        fault.apply(&mut self.network, false);
        match fault {
            Fault::Crash(host) | Fault::Freeze(host) => self.revive(*host),
            Fault::Jump(host) => self.hosts[*host].clock.jump(Duration::ZERO, Duration::ZERO),
            Fault::Cut(_) => {}
        }
    }

    /// A host that booted uses what it remembers, before it has heard of anybody.
    fn revive(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.frozen = false;
        for event in std::mem::take(&mut host.waiting) {
            self.agenda.after(Duration::ZERO, event);
        }
        if !host.up {
            (host.up, host.uses) = (true, *host.disk.read());
            let first = host.first.or(host.uses);
            assert_eq!(host.uses, first, "host {number} remembers");
            host.first = first;
            host.failures = 0;
            self.next_round(number, Duration::ZERO);
            self.check_uses();
        }
    }
}

fn service() -> Name {
    Name::from(SERVICE)
}

fn config(subnets: usize) -> Config {
    let network: Block = "10.3.0.0/16".parse().expect("a network");
    let last = u8::try_from(subnets).expect("few subnets");
    let (min, max) = (Ipv4Addr::new(10, 3, 1, 0), Ipv4Addr::new(10, 3, last, 0));
    let input =
        ConfigInput { subnet_min: Some(min), subnet_max: Some(max), ..ConfigInput::of(network) };
    Config::new(input).expect("a valid configuration")
}

fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, u8::try_from(host).unwrap_or(u8::MAX))
}

fn lease(host: usize) -> Lease {
    Lease { public_ip: address(host), http_port: 5002, backend: Backend::Alloc, seen: None }
}
