//! What Raft promises, without Raft: one log, at most one leader a term, only the leader of the newest
//! term adds to it. A proposal whose fate its proposer did not learn may still be added, as long as no
//! newer leader came, or by that leader when it comes.

use std::time::Duration;

use discoverd_registry::{Command, Event as News, Registry};

use super::monitor::Origin;
use super::{Event, Proposal, Purpose, Said, World};

/// A follower that heard nobody for this long stands for election; each draws its own up to twice that.
pub(super) const ELECTION: u64 = 1000;
const TICK: Duration = Duration::from_millis(250);

/// One entry of the log.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) command: Command,
    pub(super) origin: Origin,
}

/// The log and who may add to it.
#[derive(Debug, Default)]
pub(super) struct Consensus {
    pub(super) term: u64,
    pub(super) log: Vec<Entry>,
    /// The registry of the whole log.
    pub(super) reference: Registry,
    /// Accepted by some servers, with their proposers none the wiser.
    limbo: Vec<Entry>,
}

impl World {
    pub(super) fn start_timers(&mut self, server: usize) {
        let boot = self.servers[server].boot;
        let (tick, look) = (self.stage.random.millis(0, 250), self.stage.random.millis(0, 500));
        self.stage.after(tick, Event::Tick(server, boot));
        self.stage.after(look, Event::Look(server, boot));
    }

    /// A leader tells that it leads, a follower looks whether somebody does.
    pub(super) fn tick(&mut self, number: usize, boot: u64) {
        let now = self.stage.now();
        let server = &self.servers[number];
        if !server.up || server.boot != boot {
            return;
        }
        self.stage.after(TICK, Event::Tick(number, boot));
        if server.frozen {
            return;
        }
        if let Some(term) = server.leads {
            if self.servers.len() > 1 {
                self.servers[number].feel(now);
            }
            let server = &self.servers[number];
            let commit = server.registry().applied().0;
            for to in (0..self.servers.len()).filter(|to| *to != number) {
                self.stage.send(number, to, || Event::Beat { from: number, to, term, commit });
            }
        } else if now > server.patience {
            self.stand(number);
        }
    }

    fn stand(&mut self, candidate: usize) {
        let now = self.stage.now();
        let patience = now + self.stage.random.millis(ELECTION, 2 * ELECTION);
        self.servers[candidate].patience = patience;
        let votes = |voter: &usize| {
            let server = &self.servers[*voter];
            let content =
                server.leads.is_none() && now > server.heard + Duration::from_millis(ELECTION);
            let asks = self.stage.network.reaches(candidate, *voter);
            let hears = self.stage.network.reaches(*voter, candidate);
            let votes = server.up && !server.frozen && asks && hears;
            *voter == candidate
                || (votes && (content || server.leads.is_some_and(|_| server.alone(now))))
        };
        let voters: Vec<usize> = (0..self.servers.len()).filter(votes).collect();
        if voters.len() * 2 <= self.servers.len() {
            return;
        }
        self.consensus.term += 1;
        let term = self.consensus.term;
        self.stage.note(format_args!("server {candidate} leads term {term}"));
        for voter in voters {
            self.servers[voter].hear_of(term);
        }
        self.servers[candidate].lead(term, now);
        for entry in std::mem::take(&mut self.consensus.limbo) {
            if self.stage.random.chance(50) {
                self.add_to_log(entry);
            }
        }
        // A leader has the whole log; whether it has applied all of it is another matter.
        if self.stage.random.chance(50) {
            self.catch_up(candidate, u64::MAX);
        }
    }

    pub(super) fn beat(&mut self, from: usize, to: usize, term: u64, commit: u64) {
        let now = self.stage.now();
        let patience = now + self.stage.random.millis(ELECTION, 2 * ELECTION);
        let server = &mut self.servers[to];
        if !server.up {
            return;
        }
        if term >= server.term {
            server.hear_of(term);
            (server.leader, server.patience, server.heard) = (Some(from), patience, now);
            self.catch_up(to, commit);
        }
        let term = self.servers[to].term;
        self.stage.send(to, from, || Event::BeatAck { from: to, to: from, term });
    }

    pub(super) fn beat_ack(&mut self, from: usize, to: usize, term: u64) {
        let (now, servers) = (self.stage.now(), self.servers.len());
        let server = &mut self.servers[to];
        if !server.up {
            return;
        }
        server.hear_of(term);
        if server.leads == Some(term) {
            let mono = server.clock.mono(now);
            server.acks.insert(from, mono);
            server.count_quorum(servers, mono);
        }
    }

    pub(super) fn propose(&mut self, by: usize, command: Command, purpose: Purpose) {
        let server = &self.servers[by];
        let Some(term) = server.leads else {
            return self.decided(by, &purpose, Said::NotKnown);
        };
        let proposal = Proposal { by, boot: server.boot, term, command, purpose };
        let takes = self.stage.random.millis(2, 120);
        self.stage.after(takes, Event::Decide(proposal));
    }

    /// A proposal's time is up: it is in the log, or its proposer cannot say.
    pub(super) fn decide(&mut self, proposal: Proposal) {
        let Proposal { by, boot, term, command, purpose } = proposal;
        let server = &self.servers[by];
        if server.frozen {
            let again = Proposal { by, boot, term, command, purpose };
            self.stage.after(TICK, Event::Decide(again));
            return;
        }
        let origin = Origin { by, term, ordered: server.clock.mono(self.stage.now()) };
        let origin = match &purpose {
            Purpose::Expiry => Origin { ordered: server.ordered, ..origin },
            Purpose::Client { .. } => origin,
        };
        let entry = Entry { command, origin };
        let alive = server.up && server.boot == boot;
        if alive && server.leads == Some(term) && self.consensus.term == term && self.has_quorum(by)
        {
            // What it accepted before comes first.
            for earlier in std::mem::take(&mut self.consensus.limbo) {
                self.add_to_log(earlier);
            }
            let said = self.add_to_log(entry);
            self.catch_up(by, u64::MAX);
            return self.decided(by, &purpose, said);
        }
        if self.consensus.term == term {
            self.stage.note(format_args!("in doubt: {:?}", entry.command));
            self.consensus.limbo.push(entry);
        }
        if alive {
            self.decided(by, &purpose, Said::NotKnown);
        }
    }

    fn has_quorum(&self, of: usize) -> bool {
        let follows = |other: &&usize| {
            let server = &self.servers[**other];
            let both =
                self.stage.network.reaches(of, **other) && self.stage.network.reaches(**other, of);
            server.up && !server.frozen && both
        };
        let all: Vec<usize> = (0..self.servers.len()).collect();
        all.iter().filter(follows).count() * 2 > all.len()
    }

    fn add_to_log(&mut self, entry: Entry) -> Said {
        let at = discoverd_registry::LogIndex(self.consensus.log.len() as u64 + 1);
        let (result, news) = self.consensus.reference.apply(entry.command.clone(), at);
        self.consensus.reference.check_invariants();
        self.stage
            .note(format_args!("{at}: {:?} by {:?}: {result:?}", entry.command, entry.origin));
        self.monitor.applied(&entry, at, &result);
        for down in news.iter().filter_map(|news| match news {
            News::Down(_, gone) => Some(gone),
            News::Up(..) | News::Updated(..) | News::Leader(..) | News::Meta(..) => None,
        }) {
            self.monitor.down(&entry, down.id.as_str());
        }
        self.consensus.log.push(entry);
        match result {
            Ok(_) => Said::Done,
            Err(_) => Said::Refused,
        }
    }
}
