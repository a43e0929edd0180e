//! discoverd: servers that agree by Raft (a model of what it promises), the real [`Registry`] and
//! [`Leases`] on each, kept in step by the real [`Leased`], clients with heartbeats and clients that count
//! by compare-and-swap.
//!
//! Promised at every moment:
//! - nothing expires before the leader that ordered it led for a full TTL and, for as long, read no sign
//!   of life of the instance; one that came before the lease was over counts though the leader stood still
//!   and had not read it; a heartbeat that a leader took is never overruled by its own order;
//! - what a leader missed while it stood still or had no quorum is held against nobody for a TTL after;
//! - indices only grow; every count that was acknowledged is in the history, none twice;
//! - every server has the registry of the same log, and its watchers' news add up to it.
//!
//! Promised a minute after the last fault: all servers agree, who gives signs of life is registered,
//! who does not is gone, and counting goes on.
//!
//! [`Registry`]: discoverd_registry::Registry
//! [`Leases`]: discoverd_registry::Leases
//! [`Leased`]: discoverd_registry::Leased

mod client;
mod consensus;
mod monitor;
mod requests;
mod server;

use std::time::Duration;

use discoverd_registry::{Command, Id, Name};

use self::client::Client;
use self::consensus::Consensus;
use self::monitor::Monitor;
use self::server::Server;
use crate::{Model, NodeClock, Random, Stage, Storm, Trace};

/// Of the time to settle an election, the grace time of 20 s and a TTL are needed.
const STORM: Storm = Storm {
    first: Duration::from_secs(5),
    lasts: Duration::from_secs(200),
    settles: Duration::from_secs(60),
    stays: Duration::ZERO,
    pause: 15_000,
    slower: 1,
};

/// The service of the instances.
const SERVICE: &str = "web";
/// The service whose metadata is counted up.
const COUNTER: &str = "counter";

/// A client's request.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// A registration, which is a sign of life too.
    Put,
    /// A registration is withdrawn.
    Leave,
    /// What is the count?
    Count,
    /// Compare-and-swap of the count.
    Raise { expected: u64, from: u64 },
}

/// What a server answers.
#[derive(Clone, Copy, Debug)]
enum Said {
    Done,
    Count { index: u64, value: u64 },
    Refused,
    NotKnown,
}

#[derive(Debug)]
enum Event {
    Tick(usize, u64),
    Look(usize, u64),
    Beat { from: usize, to: usize, term: u64, commit: u64 },
    BeatAck { from: usize, to: usize, term: u64 },
    Decide(Proposal),
    Request { client: usize, to: usize, token: u64, ask: Ask, forwarded: bool },
    Reply { client: usize, token: u64, said: Said },
    Client(usize),
}

/// A command on its way into the log.
#[derive(Clone, Debug)]
struct Proposal {
    by: usize,
    boot: u64,
    term: u64,
    command: Command,
    purpose: Purpose,
}

/// For whom it is.
#[derive(Clone, Debug)]
enum Purpose {
    Client { client: usize, token: u64 },
    Expiry,
}

struct World {
    stage: Stage<Event>,
    consensus: Consensus,
    servers: Vec<Server>,
    clients: Vec<Client>,
    monitor: Monitor,
}

/// One run.
pub fn run(seed: u64, trace: &Trace) {
    World::new(seed, trace).play(STORM);
}

impl World {
    fn new(seed: u64, trace: &Trace) -> Self {
        let mut stage = Stage::new(Random::new(seed), trace);
        let servers = [1, 3, 3, 5][stage.random.below(4)];
        let random = &mut stage.random;
        let mut world = Self {
            servers: (0..servers).map(|_| Server::new(random)).collect(),
            clients: (0..6).map(|number| Client::new(number, servers + number, random)).collect(),
            consensus: Consensus::default(),
            monitor: Monitor::default(),
            stage,
        };
        for server in 0..servers {
            world.start_timers(server);
        }
        for client in 0..world.clients.len() {
            let at = world.stage.random.millis(0, 5000);
            world.stage.after(at, Event::Client(client));
        }
        world
    }

    /// A sign of life waits in the socket of a leader that stands still.
    fn arrives(&mut self, at: usize, event: &Event) {
        let server = &self.servers[at];
        let (mono, term) = (server.clock.mono(self.stage.now()), self.consensus.term);
        if let Event::Request { client, ask: Ask::Put, .. } = event
            && server.up
            && server.leads == Some(term)
            && server.trusts(client_id(*client).as_str())
        {
            self.monitor.waits(at, term, *client, mono);
        }
    }
}

impl Model for World {
    type Event = Event;

    fn stage(&mut self) -> &mut Stage<Event> {
        &mut self.stage
    }

    fn nodes(&self) -> (usize, usize) {
        (self.servers.len(), self.servers.len() + self.clients.len())
    }

    fn clock(&mut self, machine: usize) -> &mut NodeClock {
        &mut self.servers[machine].clock
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Tick(server, boot) => self.tick(server, boot),
            Event::Look(server, boot) => self.look(server, boot),
            Event::Decide(proposal) => self.decide(proposal),
            Event::Client(client) => self.client_acts(client),
            Event::Reply { client, token, said } => self.client_hears(client, token, said),
            Event::Beat { to, .. } | Event::BeatAck { to, .. } | Event::Request { to, .. }
                if self.servers[to].frozen =>
            {
                self.arrives(to, &event);
                self.servers[to].waiting.push(event);
            }
            Event::Beat { from, to, term, commit } => self.beat(from, to, term, commit),
            Event::BeatAck { from, to, term } => self.beat_ack(from, to, term),
            Event::Request { client, to, token, ask, forwarded } => {
                self.request(client, to, token, ask, forwarded);
            }
        }
    }

    fn crash(&mut self, machine: usize) {
        self.power_cut(machine);
    }

    fn freeze(&mut self, machine: usize) {
        self.servers[machine].stand_still(self.stage.now());
    }

    fn thaw(&mut self, machine: usize) {
        self.wake(machine);
    }

    fn boot(&mut self, machine: usize) {
        self.power_back(machine);
    }

    fn calms_down(&mut self) {
        for client in &mut self.clients {
            client.calm_down();
        }
    }

    fn check_settled(&self) {
        let all = self.consensus.reference.snapshot();
        for (number, server) in self.servers.iter().enumerate() {
            assert!(server.up, "server {number} is up");
            assert_eq!(server.registry().snapshot(), all, "server {number} has caught up");
        }
        assert!(self.servers.iter().any(|server| server.leads.is_some()), "there is a leader");
        for client in &self.clients {
            let there = self.consensus.reference.instance(SERVICE, client.id.as_str()).is_some();
            if let Some(alive) = client.should_be_registered() {
                assert_eq!(there, alive, "instance {} is registered", client.id);
            }
        }
        self.monitor.check_counts(&self.clients, self.stage.now());
    }
}

fn service() -> Name {
    Name::from(SERVICE)
}

fn counter() -> Name {
    Name::from(COUNTER)
}

fn client_id(number: usize) -> Id {
    Id::from(format!("client{number}"))
}
