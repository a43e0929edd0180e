//! discoverd: servers that agree by Raft (a model of what it promises), the real [`Registry`] and
//! [`Leases`] on each, clients with heartbeats and clients that count by compare-and-swap.
//!
//! Promised at every moment:
//! - nothing expires before the leader that ordered it led for a full TTL and, for as long, no sign
//!   of life of the instance reached it; a heartbeat that a leader took is never overruled by its own order;
//! - indices only grow; every count that was acknowledged is in the history, none twice;
//! - every server has the registry of the same log, and its watchers' news add up to it.
//!
//! Promised [`SETTLES`] after the last fault: all servers agree, who gives signs of life is registered,
//! who does not is gone, and counting goes on.
//!
//! [`Registry`]: discoverd_registry::Registry
//! [`Leases`]: discoverd_registry::Leases

mod client;
mod consensus;
mod monitor;
mod server;

use std::time::Duration;

use discoverd_registry::{Command, Id, Name};

use self::client::Client;
use self::consensus::Consensus;
use self::monitor::Monitor;
use self::server::Server;
use crate::{Agenda, Fault, Network, Random, Trace, draw_fault};

/// How long things go wrong.
const STORM: Duration = Duration::from_secs(200);
/// How long after that everything is as it should be: an election, the grace time of 20 s, a TTL.
pub const SETTLES: Duration = Duration::from_secs(60);

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
    Fault,
    Undo(Fault),
    Calm,
    End,
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
    agenda: Agenda<Event>,
    random: Random,
    network: Network,
    trace: Trace,
    consensus: Consensus,
    servers: Vec<Server>,
    clients: Vec<Client>,
    monitor: Monitor,
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
        let network = Network::bad(&mut random);
        let servers = [1, 3, 3, 5][random.below(4)];
        let mut world = Self {
            agenda: Agenda::default(),
            servers: (0..servers).map(|_| Server::new(&mut random)).collect(),
            clients: (0..6)
                .map(|number| Client::new(number, servers + number, &mut random))
                .collect(),
            consensus: Consensus::default(),
            monitor: Monitor::default(),
            random,
            network,
            trace,
            calm: false,
        };
        for server in 0..servers {
            world.start_timers(server);
        }
        for client in 0..world.clients.len() {
            let at = world.random.millis(0, 5000);
            world.agenda.after(at, Event::Client(client));
        }
        let first = world.random.millis(5000, 40_000);
        world.agenda.after(first, Event::Fault);
        world.agenda.after(STORM, Event::Calm);
        world.agenda.after(STORM + SETTLES, Event::End);
        world
    }

    fn handle(&mut self, event: Event) {
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
            Event::Fault => self.fault(),
            Event::Undo(fault) => self.undo(&fault),
            Event::Calm => self.storm_ends(),
            Event::End => {}
        }
    }

    /// A sign of life waits in the socket of a leader that stands still.
    fn arrives(&mut self, at: usize, event: &Event) {
        let server = &self.servers[at];
        let (mono, term) = (server.clock.mono(self.agenda.now()), self.consensus.term);
        if let Event::Request { client, ask: Ask::Put, .. } = event
            && server.up
            && server.leads == Some(term)
            && server.trusts(client_id(*client).as_str())
        {
            self.monitor.waits(at, term, *client, mono);
        }
    }

    fn send(&mut self, from: usize, to: usize, message: impl Fn() -> Event) {
        for delay in self.network.send(from, to, &mut self.random) {
            self.agenda.after(delay, message());
        }
    }

    fn fault(&mut self) {
        if self.calm {
            return;
        }
        let nodes = self.servers.len() + self.clients.len();
        let (fault, lasts) = draw_fault(&mut self.random, self.servers.len(), nodes);
        self.trace.note(self.agenda.now(), format_args!("fault {fault:?} for {lasts:?}"));
        fault.apply(&mut self.network, true);
        match &fault {
            Fault::Crash(server) => self.crash(*server),
            Fault::Freeze(server) => self.servers[*server].frozen = true,
            Fault::Cut(_) | Fault::Jump(_) => {}
        }
        self.agenda.after(lasts, Event::Undo(fault));
        let pause = self.random.millis(500, 30_000);
        self.agenda.after(pause, Event::Fault);
    }

    fn undo(&mut self, fault: &Fault) {
        if self.calm {
            return;
        }
        self.trace.note(self.agenda.now(), format_args!("end of {fault:?}"));
        fault.apply(&mut self.network, false);
        match fault {
            Fault::Crash(server) => self.boot(*server),
            Fault::Freeze(server) => self.thaw(*server),
            Fault::Cut(_) | Fault::Jump(_) => {}
        }
    }

    fn storm_ends(&mut self) {
        self.trace.note(self.agenda.now(), format_args!("the storm is over"));
        self.calm = true;
        self.network.calm();
        for server in 0..self.servers.len() {
            self.thaw(server);
            self.boot(server);
        }
        for client in &mut self.clients {
            client.calm_down();
        }
    }

    fn check_settled(&self) {
        let all = self.consensus.reference.snapshot();
        for (number, server) in self.servers.iter().enumerate() {
            assert!(server.up, "server {number} is up");
            assert_eq!(server.registry.snapshot(), all, "server {number} has caught up");
        }
        assert!(self.servers.iter().any(|server| server.leads.is_some()), "there is a leader");
        for client in &self.clients {
            let there = self.consensus.reference.instance(SERVICE, client.id.as_str()).is_some();
            if let Some(alive) = client.should_be_registered() {
                assert_eq!(there, alive, "instance {} is registered", client.id);
            }
        }
        self.monitor.check_counts(&self.clients, self.agenda.now());
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
