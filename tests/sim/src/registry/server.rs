//! One server: the real registry with its leases, driven as discoverd's own loop drives them.

use std::collections::BTreeMap;
use std::time::Duration;

use discoverd_registry::{
    Command, Event as News, Id, Lapsed, LeaseConfig, Leased, LogIndex, Look, Registry, Snapshot,
};
use kit_clock::Mono;

use super::{Event, Purpose, Said, World};
use crate::{Disk, NodeClock, Random};

/// How often a server looks for leases that end, when it knows no better.
const LOOKS: Duration = Duration::from_secs(1);
/// Who heard nobody for longer than is doubtful has noticed it after so much more.
const NOTICES: Duration = Duration::from_millis(1500);
/// A follower this far behind gets a snapshot.
const SNAPSHOT_BEHIND: u64 = 12;

#[derive(Debug)]
pub(super) struct Server {
    pub(super) up: bool,
    pub(super) frozen: bool,
    /// A look was due while it was frozen.
    overslept: bool,
    /// When it began to stand still.
    stands_since: Mono,
    /// When it was last out of touch for longer than any leader may hold against others.
    out_of_touch: Mono,
    /// What came while it was frozen.
    pub(super) waiting: Vec<Event>,
    pub(super) boot: u64,
    pub(super) clock: NodeClock,
    pub(super) leased: Leased,
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
    pub(super) acks: BTreeMap<usize, Mono>,
    quorum: Mono,
    looked: Mono,
    /// When the expiry that is on its way was ordered.
    pub(super) ordered: Mono,
    expiring: Vec<Lapsed>,
}

impl Server {
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            up: true,
            frozen: false,
            overslept: false,
            stands_since: Mono::ZERO,
            out_of_touch: Mono::ZERO,
            waiting: Vec::new(),
            boot: 0,
            clock: NodeClock::new(random),
            leased: Leased::new(Registry::new(), LeaseConfig::default()),
            disk: Disk::default(),
            watched: BTreeMap::new(),
            leads: None,
            driven: None,
            term: 0,
            leader: None,
            heard: Duration::ZERO,
            patience: Duration::ZERO,
            acks: BTreeMap::new(),
            quorum: Mono::ZERO,
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
        (self.term, self.leads, self.quorum) = (term, Some(term), self.clock.mono(now));
        self.acks.clear();
    }

    pub(super) fn registry(&self) -> &Registry {
        self.leased.registry()
    }

    /// Whether it knows the instance and has not ordered its end.
    pub(super) fn trusts(&self, id: &str) -> bool {
        let known = self.registry().instance(super::SERVICE, id).is_some();
        known && !self.leased.is_condemned(super::SERVICE, id)
    }

    /// Whether its quorum has been silent for too long.
    pub(super) fn alone(&self, now: Duration) -> bool {
        self.clock.mono(now).since(self.quorum) > LeaseConfig::default().doubtful_after()
    }

    /// Stands still from now on.
    pub(super) fn stand_still(&mut self, now: Duration) {
        if !std::mem::replace(&mut self.frozen, true) {
            self.stands_since = self.clock.mono(now);
        }
    }

    /// A leader looks whether it has a quorum.
    pub(super) fn feel(&mut self, now: Duration) {
        let mono = self.clock.mono(now);
        self.was_deaf(mono.since(self.quorum), mono);
    }

    fn was_deaf(&mut self, span: Duration, now: Mono) {
        if span > LeaseConfig::default().doubtful_after() + NOTICES {
            self.out_of_touch = now;
        }
    }

    /// The quorum was there when so many of the newest answers came that they are a majority with itself.
    pub(super) fn count_quorum(&mut self, servers: usize, now: Mono) {
        let mut acks: Vec<Mono> = self.acks.values().copied().collect();
        acks.sort_by(|one, other| other.cmp(one));
        let needed = servers / 2;
        self.quorum =
            if needed == 0 { now } else { acks.get(needed - 1).copied().unwrap_or(self.quorum) };
    }
}

impl World {
    /// One round of discoverd's expiry loop: it looks, and waits for the fate of what it orders.
    pub(super) fn look(&mut self, number: usize, boot: u64) {
        let (now, alone_is_quorum) = (self.stage.now(), self.servers.len() == 1);
        let server = &mut self.servers[number];
        if !server.up || server.boot != boot {
            return;
        }
        if server.frozen {
            server.overslept = true;
            return;
        }
        let mono = server.clock.mono(now);
        if alone_is_quorum {
            server.quorum = mono;
        }
        let look = Look {
            leads: server.leads,
            since_look: mono.since(server.looked),
            since_quorum: Some(mono.since(server.quorum)),
        };
        server.looked = mono;
        if let Some(term) = look.leads
            && server.driven != Some(term)
        {
            self.monitor.elected(number, term, mono);
        }
        server.driven = look.leads;
        let lapsed = server.leased.look(look, mono);
        server.leased.check_invariants();
        if lapsed.is_empty() {
            return self.look_again(number);
        }
        let touch = mono.since(server.out_of_touch);
        assert!(
            touch >= LeaseConfig::default().ttl,
            "{lapsed:?} {touch:?} after being out of touch"
        );
        server.ordered = mono;
        server.expiring = lapsed.clone();
        self.stage.note(format_args!("server {number} condemns {lapsed:?}"));
        self.propose(number, Command::Expire { lapsed }, Purpose::Expiry);
    }

    fn look_again(&mut self, number: usize) {
        let server = &mut self.servers[number];
        let mono = server.clock.mono(self.stage.now());
        let (pause, boot) = (server.leased.next_look(LOOKS, mono), server.boot);
        self.stage.after(pause, Event::Look(number, boot));
    }

    /// What a proposal came to.
    pub(super) fn decided(&mut self, by: usize, purpose: &Purpose, said: Said) {
        match purpose {
            Purpose::Client { client, token } => self.reply(by, *client, *token, said),
            Purpose::Expiry => {
                let mono = self.servers[by].clock.mono(self.stage.now());
                let server = &mut self.servers[by];
                let lapsed = std::mem::take(&mut server.expiring);
                if matches!(said, Said::NotKnown) {
                    server.leased.expiry_failed(lapsed, mono);
                }
                server.leased.check_invariants();
                self.look_again(by);
            }
        }
    }

    /// Applies the log up to an index, entry by entry or by a snapshot.
    pub(super) fn catch_up(&mut self, number: usize, upto: u64) {
        let upto = upto.min(self.consensus.log.len() as u64);
        let (now, by_snapshot) = (self.stage.now(), self.stage.random.chance(50));
        let server = &mut self.servers[number];
        let applied = server.registry().applied().0;
        if by_snapshot && server.leads.is_none() && upto > applied + SNAPSHOT_BEHIND {
            let news = server.leased.replace(self.consensus.reference.snapshot());
            server.watch(&news);
        }
        let mono = server.clock.mono(now);
        for index in server.registry().applied().0 + 1..=upto {
            let Some(entry) =
                usize::try_from(index - 1).ok().and_then(|at| self.consensus.log.get(at))
            else {
                break;
            };
            if let Command::AddInstance { id, .. } = &entry.command {
                self.monitor.heard(number, server.driven, id.as_str(), mono);
            }
            let (_, news) = server.leased.apply(entry.command.clone(), mono);
            server.watch(&news);
        }
        server.check();
        if server.registry().applied().0 > applied {
            server.disk.write(server.registry().snapshot());
            if self.stage.random.chance(40) {
                server.disk.sync();
            }
        }
    }

    pub(super) fn power_cut(&mut self, number: usize) {
        let server = &mut self.servers[number];
        (server.up, server.frozen, server.overslept) = (false, false, false);
        server.waiting.clear();
        server.boot += 1;
        server.disk.crash(&mut self.stage.random);
    }

    pub(super) fn power_back(&mut self, number: usize) {
        let now = self.stage.now();
        let server = &mut self.servers[number];
        if server.up {
            return;
        }
        server.up = true;
        let registry = Registry::restore(server.disk.read().clone());
        server.watched = believed(&registry.picture(super::SERVICE));
        server.leased = Leased::new(registry, LeaseConfig::default());
        (server.leads, server.driven, server.leader) = (None, None, None);
        (server.looked, server.patience) = (server.clock.mono(now), now);
        server.heard = Duration::ZERO;
        server.expiring.clear();
        self.start_timers(number);
    }

    pub(super) fn wake(&mut self, number: usize) {
        let server = &mut self.servers[number];
        if std::mem::take(&mut server.frozen) {
            let mono = server.clock.mono(self.stage.now());
            server.was_deaf(mono.since(server.stands_since), mono);
            let (boot, waiting) = (server.boot, std::mem::take(&mut server.waiting));
            // The worst order: it looks for ended leases before it reads what waits in its sockets.
            if std::mem::take(&mut server.overslept) {
                self.stage.after(Duration::ZERO, Event::Look(number, boot));
            }
            for event in waiting {
                self.stage.after(Duration::from_millis(1), event);
            }
        }
    }
}

impl Server {
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
        self.leased.check_invariants();
        let picture = self.registry().picture(super::SERVICE);
        assert_eq!(self.watched, believed(&picture), "watchers know");
    }
}

fn believed(picture: &[News]) -> BTreeMap<Id, LogIndex> {
    let ups = picture.iter().filter_map(|news| match news {
        News::Up(_, instance) => Some((instance.id.clone(), instance.index)),
        News::Updated(..) | News::Down(..) | News::Leader(..) | News::Meta(..) => None,
    });
    ups.collect()
}
