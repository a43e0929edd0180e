//! Clients: four that register and give signs of life, now and then stopping for a while or leaving,
//! and two that count by compare-and-swap.

use std::time::Duration;

use discoverd_registry::Id;

use super::{Ask, Event, STORM, Said, World, client_id};
use crate::Random;

/// How often a sign of life is given: half the TTL.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long before the end of a run nobody asks anything any more; shorter than a TTL.
const LAST_WORDS: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: Id,
    node: usize,
    job: Job,
    /// The request that is not answered yet.
    open: Option<u64>,
    tokens: u64,
    server: usize,
}

#[derive(Debug)]
enum Job {
    /// Silent until then, and whether it says goodbye.
    Register {
        silent_until: Option<Duration>,
        leaves: bool,
        dies_in_the_end: bool,
    },
    Count {
        stored: (u64, u64),
        raising: bool,
        acknowledged: Vec<u64>,
        last: Duration,
    },
}

impl Client {
    pub(super) fn new(number: usize, node: usize, random: &mut Random) -> Self {
        let job = if number < 4 {
            Job::Register { silent_until: None, leaves: false, dies_in_the_end: number == 3 }
        } else {
            Job::Count {
                stored: (0, 0),
                raising: false,
                acknowledged: Vec::new(),
                last: Duration::ZERO,
            }
        };
        Self { id: client_id(number), node, job, open: None, tokens: 0, server: random.below(5) }
    }

    /// Whether it should be registered when all is settled; nothing for one that counts.
    pub(super) fn should_be_registered(&self) -> Option<bool> {
        match &self.job {
            Job::Register { dies_in_the_end, .. } => Some(!dies_in_the_end),
            Job::Count { .. } => None,
        }
    }

    /// The tokens of its counts that were acknowledged, and when the last was.
    pub(super) fn counted(&self) -> Option<(&[u64], Duration)> {
        match &self.job {
            Job::Register { .. } => None,
            Job::Count { acknowledged, last, .. } => Some((acknowledged, *last)),
        }
    }

    pub(super) fn calm_down(&mut self) {
        if let Job::Register { silent_until, dies_in_the_end, .. } = &mut self.job {
            *silent_until = dies_in_the_end.then_some(Duration::MAX);
        }
    }
}

impl World {
    pub(super) fn client_acts(&mut self, number: usize) {
        let (now, servers) = (self.stage.now(), self.servers.len());
        // The last words have time to arrive everywhere.
        if now + LAST_WORDS > STORM.lasts + STORM.settles {
            return;
        }
        let unanswered = self.clients[number].open.is_some();
        if unanswered {
            self.clients[number].server = self.stage.random.below(servers);
        }
        let (ask, pause) = match &mut self.clients[number].job {
            Job::Register { silent_until: Some(until), leaves, .. } if *until > now => {
                (std::mem::take(leaves).then_some(Ask::Leave), HEARTBEAT)
            }
            Job::Register { silent_until, leaves, .. } => {
                *silent_until = None;
                if self.stage.random.chance(4) && !self.stage.is_calm() {
                    // About a TTL, so that its next sign of life comes just before the end or just after.
                    let longest = if self.stage.random.chance(50) { 11_000 } else { 50_000 };
                    *silent_until = Some(now + self.stage.random.millis(8000, longest));
                    *leaves = self.stage.random.chance(40);
                }
                (Some(Ask::Put), if unanswered { PATIENCE } else { HEARTBEAT })
            }
            Job::Count { stored: (expected, from), raising, .. } => {
                *raising = !unanswered && !*raising;
                let raise = Ask::Raise { expected: *expected, from: *from };
                // Two that counted in step would lose to each other for ever.
                let pause = PATIENCE / 2 + self.stage.random.millis(0, 1500);
                (Some(if *raising { raise } else { Ask::Count }), pause)
            }
        };
        self.stage.after(pause, Event::Client(number));
        let Some(ask) = ask else { return };
        let client = &mut self.clients[number];
        client.tokens += 1;
        client.open = Some(client.tokens);
        let (node, to, token) = (client.node, client.server % servers, client.tokens);
        let request = || Event::Request { client: number, to, token, ask, forwarded: false };
        self.stage.send(node, to, request);
    }

    pub(super) fn client_hears(&mut self, number: usize, token: u64, said: Said) {
        let now = self.stage.now();
        let client = &mut self.clients[number];
        // An answer that comes too late, or a second time, still says what was done.
        if let (Job::Count { acknowledged, last, raising: true, .. }, Said::Done) =
            (&mut client.job, &said)
            && client.open == Some(token)
        {
            acknowledged.push(token);
            *last = now;
        }
        if client.open != Some(token) {
            return;
        }
        client.open = None;
        match (&mut client.job, said) {
            (Job::Count { stored, raising, .. }, Said::Count { index, value }) => {
                (*stored, *raising) = ((index, value), false);
            }
            (Job::Count { .. } | Job::Register { .. }, _) => {}
        }
    }
}
