//! Clients compare and swap metadata on three servers of which one after another is killed, made to stand
//! still, cut off or made deaf; what they were answered must fit one order of events.

mod checker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use discoverd_api::{ServiceConfig, ServiceMeta};
use kit_tasks::Tasks;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use self::checker::{Call, MOST, Operation, is_linearizable};
use crate::lab::{Lab, N};
use crate::support::{PATIENCE, try_ask, until};

const CLIENTS: u64 = 4;
const KEYS: u64 = 2;
/// Faults a run.
const ROUNDS: u64 = 6;
/// How long a client waits for one answer: shorter than many a fault.
const ANSWER: Duration = Duration::from_secs(2);
const JSON: &str = "Content-Type: application/json\r\n";

/// One attempt, as its client saw it.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// The key's version and who wrote it.
    Read(Version),
    Stored {
        expected: u64,
        stored: u64,
        writer: u64,
    },
    Refused {
        expected: u64,
    },
    /// It may have been done or not, then or later. So is every attempt until it is answered.
    Unknown {
        expected: u64,
        writer: u64,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Version {
    index: u64,
    writer: u64,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    seen: Seen,
    asked: u64,
    answered: u64,
}

/// What all clients saw, by key.
#[derive(Debug, Default)]
struct History {
    moment: AtomicU64,
    keys: Mutex<BTreeMap<String, Vec<Record>>>,
}

impl History {
    fn now(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    fn add(&self, key: &str, seen: Seen, asked: u64) -> usize {
        let record = Record { seen, asked, answered: self.now() };
        let mut keys = self.keys.lock().unwrap();
        let records = keys.entry(key.to_owned()).or_default();
        records.push(record);
        records.len() - 1
    }

    /// Writes an attempt down before it is made: whoever makes it may be ended meanwhile.
    fn attempt(&self, key: &str, expected: u64, writer: u64) -> usize {
        self.add(key, Seen::Unknown { expected, writer }, self.now())
    }

    /// What became of an attempt.
    fn answered(&self, key: &str, attempt: usize, seen: Seen) {
        let now = self.now();
        let mut keys = self.keys.lock().unwrap();
        let record = &mut keys.get_mut(key).unwrap()[attempt];
        (record.seen, record.answered) = (seen, now);
    }

    /// Whether somebody was told that one of a round's keys took what they wrote.
    fn has_stored(&self, round: u64) -> bool {
        let keys = self.keys.lock().unwrap();
        let mut records = (0..KEYS).filter_map(|n| keys.get(&key(round, n))).flatten();
        records.any(|record| matches!(record.seen, Seen::Stored { .. }))
    }

    /// Whether a key has room for what all clients may be doing.
    fn has_room(&self, key: &str) -> bool {
        let most = MOST - 3 * usize::try_from(CLIENTS).unwrap();
        self.keys.lock().unwrap().get(key).is_none_or(|records| records.len() < most)
    }
}

/// A client that tries again and again.
struct Contender {
    addrs: Vec<SocketAddr>,
    history: Arc<History>,
    round: Arc<AtomicU64>,
    random: StdRng,
    /// Names each attempt by another number.
    writers: Arc<AtomicU64>,
}

impl Contender {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.random.random_range(5..60))).await;
            let round = self.round.load(Ordering::SeqCst);
            let key = key(round, self.random.random_range(0..KEYS));
            if self.history.has_room(&key) {
                let version = self.read(&key).await;
                self.swap(&key, version.unwrap_or_default().index).await;
            }
        }
    }

    fn server(&mut self) -> SocketAddr {
        self.addrs[self.random.random_range(0..self.addrs.len())]
    }

    async fn read(&mut self, key: &str) -> Option<Version> {
        let (asked, server) = (self.history.now(), self.server());
        let version = read(server, key).await?;
        self.history.add(key, Seen::Read(version), asked);
        Some(version)
    }

    /// At any server, which may send us on to another.
    async fn swap(&mut self, key: &str, expected: u64) {
        let mut server = self.server();
        let writer = self.writers.fetch_add(1, Ordering::SeqCst);
        let path = format!("/services/{key}/meta");
        let body = format!("{{\"data\":{writer},\"index\":{expected}}}");
        let attempt = self.history.attempt(key, expected, writer);
        for _ in 0..3 {
            let answer = try_ask(server, "PUT", &path, JSON, &body);
            let answer = tokio::time::timeout(ANSWER, answer).await;
            let seen = match answer {
                Ok(Ok(answer)) => match answer.status {
                    200 => {
                        let meta: ServiceMeta = serde_json::from_str(&answer.body).unwrap();
                        Seen::Stored { expected, stored: meta.index, writer }
                    }
                    409 | 412 => Seen::Refused { expected },
                    307 => {
                        let location = answer.header("location").unwrap();
                        let host = location.strip_prefix("http://").unwrap();
                        server = host.split('/').next().unwrap().parse().unwrap();
                        continue;
                    }
                    503 if answer.body.contains("no known leader") => return,
                    503 => {
                        assert!(answer.body.contains("\"retry\":false"), "{answer:?}");
                        Seen::Unknown { expected, writer }
                    }
                    _ => panic!("{answer:?}"),
                },
                Ok(Err(_)) | Err(_) => Seen::Unknown { expected, writer },
            };
            self.history.answered(key, attempt, seen);
            return;
        }
    }
}

async fn read(server: SocketAddr, key: &str) -> Option<Version> {
    let path = format!("/services/{key}/meta");
    let answer = tokio::time::timeout(ANSWER, try_ask(server, "GET", &path, "", "")).await;
    let answer = answer.ok()?.ok()?;
    if answer.status == 404 {
        return Some(Version::default());
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    let meta: ServiceMeta = serde_json::from_str(&answer.body).unwrap();
    Some(Version { index: meta.index, writer: meta.data.as_str().parse().unwrap() })
}

fn key(round: u64, key: u64) -> String {
    format!("r{round}-{key}")
}

/// The calls of one key: what was not answered counts when somebody saw what it wrote.
fn calls(records: &[Record]) -> Vec<Call> {
    let (mut written, mut writers) = (BTreeMap::new(), BTreeMap::new());
    for record in records {
        let (index, writer) = match record.seen {
            Seen::Read(Version { index, writer }) => (index, writer),
            Seen::Stored { stored, writer, .. } => (stored, writer),
            Seen::Refused { .. } | Seen::Unknown { .. } => continue,
        };
        let (before, other) = (written.insert(writer, index), writers.insert(index, writer));
        assert_eq!(before.unwrap_or(index), index, "{writer} wrote one version");
        assert_eq!(other.unwrap_or(writer), writer, "{index} was written by one");
    }
    let call = |record: &Record| {
        let Record { seen, asked, answered } = *record;
        let (operation, answered) = match seen {
            Seen::Read(version) => (Operation::Read { version: version.index }, answered),
            Seen::Stored { expected, stored, .. } => {
                (Operation::Swapped { expected, stored }, answered)
            }
            Seen::Refused { expected } => (Operation::Refused { expected }, answered),
            Seen::Unknown { expected, writer } => {
                let stored = *written.get(&writer)?;
                (Operation::Swapped { expected, stored }, u64::MAX)
            }
        };
        Some(Call { operation, asked, answered })
    };
    records.iter().filter_map(call).collect()
}

/// One fault, and its end.
async fn fault(lab: &mut Lab, random: &mut StdRng) -> String {
    let leader = lab.leader_seen_by(1).await;
    // Every second time it is the leader.
    let any: N = random.random_range(1..=3);
    let target = leader.filter(|_| random.random()).unwrap_or(any);
    let lasts = Duration::from_millis(random.random_range(500..4_000));
    let kind = random.random_range(0..4);
    match kind {
        0 => {
            lab.kill(target);
            tokio::time::sleep(lasts).await;
            lab.start(target).await;
        }
        1 => {
            lab.pause(target);
            tokio::time::sleep(lasts).await;
            lab.resume(target);
        }
        2 => {
            lab.isolate(target);
            tokio::time::sleep(lasts).await;
            lab.heal();
        }
        _ => {
            // What it leads goes on without its hearing of it.
            lab.deafen(target);
            tokio::time::sleep(lasts).await;
            lab.heal();
        }
    }
    format!("{} of {target} for {lasts:?}", ["kill", "pause", "partition", "deafness"][kind])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_of_metadata_fit_one_order_under_kill_pause_and_partition() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let mut random = StdRng::seed_from_u64(seed);
    let mut lab = Lab::running(3).await;
    // Each fault has keys for while it lasts and keys for after it: without a leader what is asked fails
    // fast, and fills a key's room with nothing.
    let all_rounds = 2 * rounds;
    for round in 0..all_rounds {
        for n in 0..KEYS {
            lab.client(1).ensure_service(&key(round, n), ServiceConfig::default()).await.unwrap();
        }
    }
    let (history, round) = (Arc::new(History::default()), Arc::new(AtomicU64::new(0)));
    let tasks = Tasks::root("contenders");
    let writers = Arc::new(AtomicU64::new(1));
    for client in 0..CLIENTS {
        let contender = Contender {
            addrs: (1..=3).map(|n| lab.addr(n)).collect(),
            history: Arc::clone(&history),
            round: Arc::clone(&round),
            random: StdRng::seed_from_u64(seed.wrapping_add(client)),
            writers: Arc::clone(&writers),
        };
        tasks.spawn_until_stop("contender", contender.run());
    }
    for during in (0..all_rounds).step_by(2) {
        round.store(during, Ordering::SeqCst);
        println!("{}", fault(&mut lab, &mut random).await);
        lab.leader().await;
        let after = during + 1;
        round.store(after, Ordering::SeqCst);
        until("swaps are stored again", async || history.has_stored(after)).await;
    }
    tasks.shutdown(PATIENCE).await;

    // What is there in the end is there everywhere, and counts as read.
    for round in 0..all_rounds {
        for key in (0..KEYS).map(|n| key(round, n)) {
            let last = Mutex::new(Version::default());
            until("one last version", async || {
                let (a, b) = (read(lab.addr(1), &key).await, read(lab.addr(2), &key).await);
                *last.lock().unwrap() = a.unwrap_or_default();
                a.is_some() && a == b && a == read(lab.addr(3), &key).await
            })
            .await;
            let last = *last.lock().unwrap();
            history.add(&key, Seen::Read(last), history.now());
        }
    }
    let keys = history.keys.lock().unwrap();
    let mut stored = 0;
    for (key, records) in keys.iter() {
        let calls = calls(records);
        stored += calls.iter().filter(|c| matches!(c.operation, Operation::Swapped { .. })).count();
        assert!(is_linearizable(&calls), "SEED={seed} {key}: no order fits {calls:#?}");
    }
    let total: usize = keys.values().map(Vec::len).sum();
    println!("{stored} swaps of {total} operations on {} keys fit one order", keys.len());
}
