//! What was acknowledged is there after any end, and indices never go back.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use discoverd::{Deps, Disk, RaftTiming};
use discoverd_api::{Client, Instance, Servers, ServiceConfig, ServiceMeta};
use kit_tasks::Tasks;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redb::StorageBackend;

use crate::support::{HandClock, PATIENCE, Server, ask, config, until};

#[tokio::test]
async fn a_restart_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    // Few entries a snapshot, so that the restart reads a snapshot and a log.
    let settings = || discoverd::Config {
        raft: RaftTiming { snapshot_after: 20, ..RaftTiming::default() },
        ..config(dir.path())
    };
    let server = Server::start(settings()).await;
    server.client.add_service("web", ServiceConfig::default()).await.unwrap();
    for n in 0..70 {
        let instance = Instance::new("tcp", &format!("10.0.0.1:{}", 1000 + n));
        server.client.put_instance("web", &instance.with_meta("n", &n.to_string())).await.unwrap();
    }
    let meta = server.client.set_meta("web", &ServiceMeta::create(&"data").unwrap()).await.unwrap();
    let before = server.client.instances("web").await.unwrap();
    let leader = server.client.leader("web").await.unwrap();
    let index = server.ask("GET", "/ping", "").await.index();
    server.stop().await;
    for _ in 0..3 {
        let server = Server::start(settings()).await;
        assert_eq!(server.client.instances("web").await.unwrap(), before);
        assert_eq!(server.client.leader("web").await.unwrap(), leader);
        assert_eq!(server.client.meta("web").await.unwrap(), Some(meta.clone()));
        assert!(server.ask("GET", "/ping", "").await.index() >= index, "indices never decrease");
        server.stop().await;
    }
}

/// A disk in memory that loses power: writes since the last sync survive or not, whole or in part.
#[derive(Clone, Debug, Default)]
struct FragileDisk {
    inner: Arc<Mutex<Fragile>>,
}

#[derive(Debug, Default)]
struct Fragile {
    /// What a read sees.
    seen: Vec<u8>,
    /// What surely survives.
    synced: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Operations left until the power goes.
    left: Option<u32>,
}

#[derive(Clone, Debug)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// The unit a disk writes whole.
const SECTOR: usize = 512;

impl FragileDisk {
    fn holding(image: Vec<u8>) -> Self {
        let inner = Fragile { seen: image.clone(), synced: image, ..Fragile::default() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn cut_after(&self, operations: u32) {
        self.inner.lock().unwrap().left = Some(operations);
    }

    fn is_cut(&self) -> bool {
        self.inner.lock().unwrap().left == Some(0)
    }

    /// What is on the disk when the power comes back.
    fn image_after_the_cut(&self, random: &mut StdRng) -> Vec<u8> {
        let inner = self.inner.lock().unwrap();
        let mut image = inner.synced.clone();
        for operation in &inner.unsynced {
            match operation {
                Unsynced::Length(length) if random.random() => image.resize(*length, 0),
                Unsynced::Write(at, data) if random.random() => {
                    let whole: bool = random.random();
                    let sectors = data.len().div_ceil(SECTOR);
                    let kept = if whole { sectors } else { random.random_range(0..=sectors) };
                    put(&mut image, *at, &data[..data.len().min(kept * SECTOR)]);
                }
                Unsynced::Length(_) | Unsynced::Write(..) => {}
            }
        }
        image
    }

    /// Runs an operation while there is power.
    fn powered<T>(&self, work: impl FnOnce(&mut Fragile) -> T) -> io::Result<T> {
        let mut inner = self.inner.lock().unwrap();
        if let Some(left) = &mut inner.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Err(io::Error::other("no power"));
            }
        }
        Ok(work(&mut inner))
    }
}

fn put(image: &mut Vec<u8>, at: usize, data: &[u8]) {
    if image.len() < at + data.len() {
        image.resize(at + data.len(), 0);
    }
    image[at..at + data.len()].copy_from_slice(data);
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl StorageBackend for FragileDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.inner.lock().unwrap();
        let at = position(offset);
        let found = inner.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.powered(|inner| {
            inner.seen.resize(position(len), 0);
            inner.unsynced.push(Unsynced::Length(position(len)));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.powered(|inner| {
            inner.synced.clone_from(&inner.seen);
            inner.unsynced.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.powered(|inner| {
            put(&mut inner.seen, position(offset), data);
            inner.unsynced.push(Unsynced::Write(position(offset), data.to_vec()));
        })
    }
}

/// Writes until the power goes; notes what was acknowledged.
async fn register_until_the_cut(
    disk: &FragileDisk,
    addr: std::net::SocketAddr,
    next: &mut u32,
    acknowledged: &mut BTreeMap<String, ()>,
) {
    while !disk.is_cut() {
        let instance = Instance::new("tcp", &format!("10.0.0.1:{next}"));
        *next += 1;
        let body = serde_json::to_string(&instance).unwrap();
        let path = format!("/services/web/instances/{}", instance.id);
        if ask(addr, "PUT", &path, "", &body).await.status == 200 {
            acknowledged.insert(instance.addr, ());
        }
    }
}

/// Each round starts on what the last power cut left, checks it, and writes until the next cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_power_cuts_lose_nothing_that_was_acknowledged() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let rounds = std::env::var("POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let mut random = StdRng::seed_from_u64(seed);
    let mut image = Vec::new();
    let mut next = 1;
    let mut acknowledged = BTreeMap::new();
    let mut indices: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..rounds {
        let disk = FragileDisk::holding(image.clone());
        let clock = Arc::new(HandClock::default());
        let deps = Deps { clock, disk: Disk::Backend(Box::new(disk.clone())), ..Deps::default() };
        let tasks = Tasks::root("round");
        let settings = discoverd::Config {
            raft: RaftTiming { snapshot_after: 50, ..RaftTiming::default() },
            ..config(std::path::Path::new("/nowhere"))
        };
        let running = discoverd::start_with(settings, deps, &tasks).await.unwrap();
        let client = Client::new(&Servers::parse(&running.addr().to_string())).unwrap();
        client.ensure_service("web", ServiceConfig::default()).await.unwrap();
        until("the state before the cut", async || {
            let found = client.instances("web").await.unwrap();
            acknowledged.keys().all(|addr| found.iter().any(|one| one.addr == *addr))
        })
        .await;
        let found = client.instances("web").await.unwrap();
        let highest = indices.values().max().copied().unwrap_or_default();
        for one in &found {
            let known = indices.insert(one.addr.clone(), one.index);
            let fits = known.map_or(one.index > highest || round == 0, |known| known == one.index);
            assert!(
                fits,
                "SEED={seed} round {round}: {} went from {known:?} to {}",
                one.addr, one.index
            );
        }
        disk.cut_after(random.random_range(1..80));
        register_until_the_cut(&disk, running.addr(), &mut next, &mut acknowledged).await;
        tasks.shutdown(PATIENCE).await;
        image = disk.image_after_the_cut(&mut random);
    }
    assert!(acknowledged.len() > 10, "the test wrote something: {}", acknowledged.len());
}
