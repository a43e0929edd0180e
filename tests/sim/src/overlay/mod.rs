//! Overlay leases: hosts that come to their subnets by the real [`Acquisition`], written by
//! compare-and-swap into the real registry, read from copies that may be old.
//!
//! Promised at every moment: no two hosts use overlapping subnets; a host that has used a subnet uses
//! no other one, restarts or not; a lease goes to another host only after seven days of silence (less
//! [`check::SLACK`]), when its host was not heard of just now, and when no subnet is free; and only a host
//! that lost its lease so may meet another in its subnet, until it hears of it. Promised a while after the
//! last fault, and from then on: every host has the subnet its lease says.
//!
//! Every fourth seed plays for weeks, with more hosts than subnets and faults of days.

mod check;
mod host;
mod text;

use std::net::Ipv4Addr;
use std::time::Duration;

use discoverd_registry::{Command, Election, LogIndex, Name, Registry};
use netplan::{Backend, Block, Config, ConfigInput, Lease, Leases};

use self::host::Host;
use crate::{Model, NodeClock, Random, Stage, Storm, Trace};

/// How often hosts look at the leases; all other times of a run are multiples of it.
const RECHECK: Duration = Duration::from_secs(20);
/// The same in a run of weeks.
const RECHECK_SLOWLY: Duration = Duration::from_secs(2 * 3600);
/// How many such times things go wrong.
const STORM: u32 = 400;
/// How many later every host has its subnet.
const SETTLES: u32 = 4;
/// How many more it keeps it.
const STAYS: u32 = 20;
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
}

struct World {
    stage: Stage<Event>,
    config: Config,
    hosts: Vec<Host>,
    registry: Registry,
    /// What followers that are behind still answer.
    old: (LogIndex, Leases),
    /// When a host looks at the leases though nobody said that they changed.
    recheck: Duration,
}

/// One run.
pub fn run(seed: u64, trace: &Trace) {
    let slowly = seed % 4 == 3;
    let recheck = if slowly { RECHECK_SLOWLY } else { RECHECK };
    let storm = Storm {
        first: Duration::from_secs(2),
        lasts: recheck * STORM,
        settles: recheck * SETTLES,
        stays: recheck * STAYS,
        pause: 8000,
        // A fault of half a minute becomes one of ten days.
        slower: if slowly { 25_000 } else { 1 },
    };
    World::new(seed, slowly, recheck, trace).play(storm);
}

impl World {
    fn new(seed: u64, slowly: bool, recheck: Duration, trace: &Trace) -> Self {
        let mut stage = Stage::new(Random::new(seed), trace);
        let random = &mut stage.random;
        let hosts = 2 + random.below(7);
        let subnets = if slowly { hosts - 1 } else { hosts + random.below(3) };
        let mut registry = Registry::new();
        let add = Command::AddService { service: service(), election: Election::Oldest };
        let (added, _) = registry.apply(add, LogIndex(1));
        assert!(added.is_ok());
        let mut world = Self {
            config: config(subnets),
            hosts: (0..hosts).map(|_| Host::new(random)).collect(),
            registry,
            old: (LogIndex::ZERO, Leases::new()),
            stage,
            recheck,
        };
        for host in 0..hosts {
            let start = world.stage.random.millis(0, 300);
            world.stage.after(start, Event::Round { host, after: 0 });
        }
        world
    }
}

impl Model for World {
    type Event = Event;

    fn stage(&mut self) -> &mut Stage<Event> {
        &mut self.stage
    }

    fn nodes(&self) -> (usize, usize) {
        (self.hosts.len(), self.hosts.len() + 1)
    }

    fn clock(&mut self, machine: usize) -> &mut NodeClock {
        &mut self.hosts[machine].clock
    }

    fn happens(&mut self, event: Event) {
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
        }
    }

    fn crash(&mut self, machine: usize) {
        self.power_cut(machine);
    }

    fn freeze(&mut self, machine: usize) {
        self.hosts[machine].frozen = true;
    }

    fn thaw(&mut self, machine: usize) {
        self.wake(machine);
    }

    fn boot(&mut self, machine: usize) {
        self.power_back(machine);
    }

    fn check_settled(&self) {
        self.check_all_leased();
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
