//! One server: the real registry and leases, driven as discoverd's own loop drives them.

use std::collections::BTreeMap;
use std::time::Duration;

use discoverd_registry::{
    Command, Election, Event as News, Id, Lapsed, LeaseConfig, LeaseEffect, LeaseEvent, Leases,
    LogIndex, Registration, Registry, Snapshot,
};
use kit_clock::Mono;

use super::{Ask, Event, Purpose, Said, World, client_id, counter, service};
use crate::{Disk, NodeClock, Random};

/// How often a server looks for leases that end, when it knows no better.
const LOOKS: Duration = Duration::from_secs(1);
/// A follower this far behind gets a snapshot.
const SNAPSHOT_BEHIND: u64 = 12;

#[derive(Debug)]
pub(super) struct Server {
    pub(super) up: bool,
    pub(super) frozen: bool,
    /// What came while it was frozen.
    pub(super) waiting: Vec<Event>,
    pub(super) boot: u64,
    pub(super) clock: NodeClock,
    pub(super) registry: Registry,
    leases: Leases,
    disk: Disk<Snapshot>,
    /// What the server's watchers believe.
    watched: BTreeMap<Id, LogIndex>,
    /// The term in which it believes to lead.
    pub(super) leads: Option<u64>,
    /// The term in which the leases were told so.
    pub(super) driven: Option<u64>,
    pub(super) term: u64,
    pub(super) leader: Option<usize>,
    /// When it last heard a leader; for a while it votes for no other.
    pub(super) heard: Duration,
    /// Until then it does not stand for election.
    pub(super) patience: Duration,
    pub(super) acks: BTreeMap<usize, Duration>,
    quorum: Duration,
    looked: Mono,
    /// When the expiry that is on its way was ordered.
    pub(super) ordered: Mono,
    expiring: Vec<Lapsed>,
}

impl Server {
    pub(super) fn new(random: &mut Random) -> Self {
        let config = LeaseConfig::default();
        Self {
            up: true,
            frozen: false,
            waiting: Vec::new(),
            boot: 0,
            clock: NodeClock::new(random),
            registry: Registry::new(),
            leases: Leases::new(config),
            disk: Disk::default(),
            watched: BTreeMap::new(),
            leads: None,
            driven: None,
            term: 0,
            leader: None,
            heard: Duration::ZERO,
            patience: Duration::ZERO,
            acks: BTreeMap::new(),
            quorum: Duration::ZERO,
            looked: Mono::ZERO,
            ordered: Mono::ZERO,
            expiring: Vec::new(),
        }
    }

    pub(super) fn hear_of(&mut self, term: u64) {
        if term > self.term {
            (self.term, self.leads) = (term, None);
        }
    }

    pub(super) fn lead(&mut self, term: u64, now: Duration) {
        (self.term, self.leads, self.quorum) = (term, Some(term), now);
        self.acks.clear();
    }

    /// Whether it knows the instance and has not ordered its end.
    pub(super) fn trusts(&self, id: &str) -> bool {
        let known = self.registry.instance(super::SERVICE, id).is_some();
        known && !self.leases.is_condemned(super::SERVICE, id)
    }

    /// Whether its quorum has been silent for too long.
    pub(super) fn alone(&self, now: Duration) -> bool {
        now.saturating_sub(self.quorum) > LeaseConfig::default().doubtful_after()
    }

    /// The quorum was there when so many of the newest answers came that they are a majority with itself.
    pub(super) fn count_quorum(&mut self, servers: usize, now: Duration) {
        let mut acks: Vec<Duration> = self.acks.values().copied().collect();
        acks.sort_by(|one, other| other.cmp(one));
        let needed = servers / 2;
        self.quorum =
            if needed == 0 { now } else { acks.get(needed - 1).copied().unwrap_or(self.quorum) };
    }
}

impl World {
    /// The expiry loop of discoverd.
    pub(super) fn look(&mut self, number: usize, boot: u64) {
        let (now, alone_is_quorum) = (self.agenda.now(), self.servers.len() == 1);
        let server = &mut self.servers[number];
        if !server.up || server.boot != boot {
            return;
        }
        self.agenda.after(LOOKS, Event::Look(number, boot));
        if server.frozen {
            return;
        }
        if alone_is_quorum {
            server.quorum = now;
        }
        let (mono, patience) = (server.clock.mono(now), LeaseConfig::default().doubtful_after());
        let stood_still = mono.since(server.looked) > LOOKS + patience;
        server.looked = mono;
        let undoubted = !stood_still && !server.alone(now);
        let lapsed = self.drive_leases(number, undoubted, mono);
        if lapsed.is_empty() {
            return;
        }
        self.trace.note(now, format_args!("server {number} condemns {lapsed:?}"));
        let server = &mut self.servers[number];
        (server.ordered, server.expiring) = (mono, lapsed.clone());
        self.propose(number, Command::Expire { lapsed }, Purpose::Expiry);
    }

    fn drive_leases(&mut self, number: usize, undoubted: bool, now: Mono) -> Vec<Lapsed> {
        let server = &mut self.servers[number];
        // The loop waits for the fate of its last order.
        if !server.expiring.is_empty() {
            return Vec::new();
        }
        let leads = server.leads;
        match (server.driven, leads) {
            (before, Some(term)) if before != Some(term) => {
                let all = all_instances(&server.registry);
                server.leases.handle(LeaseEvent::Elected(all), now);
                self.monitor.elected(number, term, now);
            }
            (Some(_), None) => server.leases.handle(LeaseEvent::Deposed, now),
            (Some(_), Some(_)) | (None, _) => {}
        }
        server.driven = leads;
        if !undoubted {
            server.leases.handle(LeaseEvent::Doubted, now);
        }
        server.leases.handle_timeout(now);
        server.leases.check_invariants();
        let orders = std::iter::from_fn(|| server.leases.poll_effect());
        orders.flat_map(|LeaseEffect::Expire(lapsed)| lapsed).collect()
    }

    /// What a proposal came to.
    pub(super) fn decided(&mut self, by: usize, purpose: &Purpose, said: Said) {
        match purpose {
            Purpose::Client { client, token } => self.reply(by, *client, *token, said),
            Purpose::Expiry => {
                let mono = self.servers[by].clock.mono(self.agenda.now());
                let server = &mut self.servers[by];
                let lapsed = std::mem::take(&mut server.expiring);
                if matches!(said, Said::NotKnown) {
                    server.leases.handle(LeaseEvent::ExpiryFailed(lapsed), mono);
                }
                server.leases.check_invariants();
            }
        }
    }

    pub(super) fn request(
        &mut self,
        client: usize,
        to: usize,
        token: u64,
        ask: Ask,
        forwarded: bool,
    ) {
        let server = &self.servers[to];
        if !server.up {
            return;
        }
        if server.leads.is_none() && !matches!(ask, Ask::Count) {
            if let Some(leader) = server.leader.filter(|leader| !forwarded && *leader != to) {
                let pass = || Event::Request { client, to: leader, token, ask, forwarded: true };
                self.send(to, leader, pass);
            }
            return;
        }
        match ask {
            Ask::Put => self.put(client, to, token),
            Ask::Leave => {
                let command = Command::RemoveInstance { service: service(), id: client_id(client) };
                self.propose(to, command, Purpose::Client { client, token });
            }
            Ask::Count => {
                let said = match server.registry.meta(super::COUNTER) {
                    None => Said::Count { index: 0, value: 0 },
                    Some(meta) => Said::Count { index: meta.index.0, value: value_of(&meta.data) },
                };
                self.reply(to, client, token, said);
            }
            Ask::Raise { expected, from } => {
                let data = format!("{} {client} {token}", from + 1).into();
                let expected = LogIndex(expected);
                let command = Command::SetMeta { service: counter(), data, expected, leader: None };
                self.propose(to, command, Purpose::Client { client, token });
            }
        }
    }

    /// A mere sign of life is in no log.
    fn put(&mut self, client: usize, to: usize, token: u64) {
        let (now, id) = (self.agenda.now(), client_id(client));
        let server = &mut self.servers[to];
        let mono = server.clock.mono(now);
        let registration = registration(client);
        let known = server.registry.instance(super::SERVICE, id.as_str());
        let same = known.is_some_and(|known| known.registration == registration);
        if same && !server.leases.is_condemned(super::SERVICE, id.as_str()) {
            server.leases.handle(LeaseEvent::Heartbeat(service(), id), mono);
            self.monitor.heard(to, server.driven, client, mono);
            return self.reply(to, client, token, Said::Done);
        }
        let missing = [service(), counter()].into_iter();
        let missing: Vec<_> =
            missing.filter(|name| server.registry.election(name.as_str()).is_none()).collect();
        for service in missing {
            let add = Command::AddService { service, election: Election::Oldest };
            self.propose(to, add, Purpose::Client { client, token: 0 });
        }
        let add = Command::AddInstance { service: service(), id, registration };
        self.propose(to, add, Purpose::Client { client, token });
    }

    fn reply(&mut self, from: usize, client: usize, token: u64, said: Said) {
        let node = self.servers.len() + client;
        self.send(from, node, || Event::Reply { client, token, said });
    }

    /// Applies the log up to an index, entry by entry or by a snapshot.
    pub(super) fn catch_up(&mut self, number: usize, upto: u64) {
        let upto = upto.min(self.consensus.log.len() as u64);
        let (now, by_snapshot) = (self.agenda.now(), self.random.chance(50));
        let server = &mut self.servers[number];
        let applied = server.registry.applied().0;
        if by_snapshot && server.leads.is_none() && upto > applied + SNAPSHOT_BEHIND {
            let news = server.registry.replace(self.consensus.reference.snapshot());
            server.watch(&news);
        }
        let mono = server.clock.mono(now);
        for index in server.registry.applied().0 + 1..=upto {
            let Some(entry) =
                usize::try_from(index - 1).ok().and_then(|at| self.consensus.log.get(at))
            else {
                break;
            };
            server.apply(entry.command.clone(), mono);
        }
        server.check();
        if server.registry.applied().0 > applied {
            server.disk.write(server.registry.snapshot());
            if self.random.chance(40) {
                server.disk.sync();
            }
        }
    }

    pub(super) fn crash(&mut self, number: usize) {
        let server = &mut self.servers[number];
        server.up = false;
        server.boot += 1;
        server.disk.crash(&mut self.random);
    }

    pub(super) fn boot(&mut self, number: usize) {
        let now = self.agenda.now();
        let server = &mut self.servers[number];
        if server.up {
            return;
        }
        server.up = true;
        server.registry = Registry::restore(server.disk.read().clone());
        server.leases = Leases::new(LeaseConfig::default());
        server.watched = believed(&server.registry.picture(super::SERVICE));
        (server.leads, server.driven, server.leader) = (None, None, None);
        (server.looked, server.patience) = (server.clock.mono(now), now);
        server.waiting.clear();
        server.expiring.clear();
        self.start_timers(number);
    }

    pub(super) fn thaw(&mut self, number: usize) {
        let server = &mut self.servers[number];
        if std::mem::take(&mut server.frozen) {
            let (boot, waiting) = (server.boot, std::mem::take(&mut server.waiting));
            // The worst order: it looks for ended leases before it reads what waits in its sockets.
            self.agenda.after(Duration::ZERO, Event::Look(number, boot));
            for event in waiting {
                self.agenda.after(Duration::from_millis(1), event);
            }
        }
    }
}

impl Server {
    fn apply(&mut self, command: Command, now: Mono) {
        let at = LogIndex(self.registry.applied().0 + 1);
        let touched = match &command {
            Command::AddInstance { service, id, .. } => Some((service.clone(), id.clone())),
            Command::AddService { .. }
            | Command::RemoveService { .. }
            | Command::SetMeta { .. }
            | Command::SetLeader { .. }
            | Command::RemoveInstance { .. }
            | Command::Expire { .. } => None,
        };
        let (result, news) = self.registry.apply(command, at);
        if let (Some((service, id)), Ok(_)) = (touched, &result) {
            self.leases.handle(LeaseEvent::Touched(Lapsed { service, id, touched: at }), now);
        }
        for event in &news {
            if let News::Down(service, gone) = event {
                self.leases.handle(LeaseEvent::Removed(service.clone(), gone.id.clone()), now);
            }
        }
        self.watch(&news);
    }

    fn watch(&mut self, news: &[News]) {
        for event in news {
            match event {
                News::Up(_, instance) => {
                    let known = self.watched.insert(instance.id.clone(), instance.index);
                    assert_eq!(known, None, "up of {instance:?}, which was up");
                }
                News::Updated(_, instance) => {
                    let known = self.watched.insert(instance.id.clone(), instance.index);
                    assert_eq!(known, Some(instance.index), "update of {instance:?}");
                }
                News::Down(_, instance) => {
                    let known = self.watched.remove(&instance.id);
                    assert_eq!(known, Some(instance.index), "down of {instance:?}");
                }
                News::Leader(..) | News::Meta(..) => {}
            }
        }
    }

    /// The state agrees with itself and with what watchers were told.
    fn check(&self) {
        self.registry.check_invariants();
        self.leases.check_invariants();
        assert_eq!(self.watched, believed(&self.registry.picture(super::SERVICE)), "watchers know");
    }
}

fn believed(picture: &[News]) -> BTreeMap<Id, LogIndex> {
    let ups = picture.iter().filter_map(|news| match news {
        News::Up(_, instance) => Some((instance.id.clone(), instance.index)),
        News::Updated(..) | News::Down(..) | News::Leader(..) | News::Meta(..) => None,
    });
    ups.collect()
}

fn all_instances(registry: &Registry) -> Vec<Lapsed> {
    let of_service = |name: &discoverd_registry::Name| {
        let name = name.clone();
        let ids: Vec<Id> =
            registry.instances(name.as_str()).map(|instance| instance.id.clone()).collect();
        ids.into_iter().filter_map(move |id| {
            let touched = registry.touched(name.as_str(), id.as_str())?;
            Some(Lapsed { service: name.clone(), id, touched })
        })
    };
    registry.services().flat_map(of_service).collect()
}

fn registration(client: usize) -> Registration {
    Registration {
        addr: format!("10.0.0.{client}:80"),
        proto: "tcp".to_owned(),
        meta: BTreeMap::new(),
    }
}

/// The count in a text such as `7 client token`.
pub(super) fn value_of(data: &str) -> u64 {
    data.split(' ').next().and_then(|value| value.parse().ok()).unwrap_or_default()
}
