//! What was acknowledged is there after any end, and indices never go back.

use std::collections::BTreeMap;
use std::sync::Arc;

use discoverd::{Deps, Disk, RaftTiming};
use discoverd_api::{Client, Instance, Servers, ServiceConfig, ServiceMeta};
use kit_tasks::Tasks;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::fragile::FragileDisk;
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

/// Writes until the power goes; notes what was acknowledged.
async fn register_until_the_cut(
    disk: &FragileDisk<3>,
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
    let mut images = Default::default();
    let mut next = 1;
    let mut acknowledged = BTreeMap::new();
    let mut indices: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..rounds {
        let disk = FragileDisk::holding(images);
        let clock = Arc::new(HandClock::default());
        let deps = Deps { clock, disk: Disk::Backends(Box::new(disk.files())), ..Deps::default() };
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
        images = disk.images_after_the_cut(&mut random);
    }
    assert!(acknowledged.len() > 10, "the test wrote something: {}", acknowledged.len());
}
