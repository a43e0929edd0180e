//! Instances whose heartbeats stop, on a clock moved by hand.

use std::sync::Arc;
use std::time::Duration;

use discoverd::Deps;
use discoverd_api::{EventKind, Instance, ServiceConfig};
use kit_tasks::Tasks;

use crate::support::{HandClock, Server, config, patiently, until};

/// Moves the clock in steps while `alive` sends heartbeats, so that no heartbeat is ever late.
async fn pass(server: &Server, clock: &HandClock, seconds: u32, alive: &[&Instance]) {
    for _ in 0..seconds {
        clock.advance(Duration::from_secs(1));
        for instance in alive {
            server.client.put_instance("web", instance).await.unwrap();
        }
    }
}

async fn start(dir: &tempfile::TempDir) -> (Server, Arc<HandClock>) {
    let clock = Arc::new(HandClock::default());
    let deps = Deps { clock: Arc::clone(&clock) as _, ..Deps::default() };
    (Server::start_with(config(dir.path()), deps).await, clock)
}

#[tokio::test]
async fn the_silent_expire_after_the_grace_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (server, clock) = start(&dir).await;
    let (a, b) = (Instance::new("tcp", "10.0.0.1:80"), Instance::new("tcp", "10.0.0.2:80"));
    server.client.add_service("web", ServiceConfig::default()).await.unwrap();
    server.client.put_instance("web", &a).await.unwrap();
    server.client.put_instance("web", &b).await.unwrap();
    let mut watch = server.client.watch("web");
    patiently("the present", async { while watch.next().await.kind != EventKind::Current {} })
        .await;
    pass(&server, &clock, 15, &[&b]).await;
    assert_eq!(server.client.instances("web").await.unwrap().len(), 2, "the leader is too young");
    let alive = [&b];
    let down = patiently("a down", async {
        loop {
            tokio::select! {
                event = watch.next() => return event,
                () = pass(&server, &clock, 1, &alive) => {}
            }
        }
    })
    .await;
    assert_eq!((down.kind, down.instance.map(|i| i.id)), (EventKind::Down, Some(a.id.clone())));
    let leader = patiently("a leader", watch.next()).await;
    assert_eq!((leader.kind, leader.instance.map(|i| i.id)), (EventKind::Leader, Some(b.id)));
    server.client.put_instance("web", &a).await.unwrap();
    let back = patiently("an up", watch.next()).await;
    assert_eq!((back.kind, back.instance.map(|i| i.id)), (EventKind::Up, Some(a.id)));
    server.stop().await;
}

#[tokio::test]
async fn a_restarted_server_gives_everybody_the_grace_again() {
    let dir = tempfile::tempdir().unwrap();
    let (server, clock) = start(&dir).await;
    let instance = Instance::new("tcp", "10.0.0.1:80");
    server.client.add_service("web", ServiceConfig::default()).await.unwrap();
    server.client.put_instance("web", &instance).await.unwrap();
    pass(&server, &clock, 19, &[]).await;
    server.stop().await;
    let (server, clock) = start(&dir).await;
    pass(&server, &clock, 19, &[]).await;
    // The loop looks every few milliseconds; a hundred requests give it time to do wrong.
    for _ in 0..100 {
        assert_eq!(server.client.instances("web").await.unwrap().len(), 1);
    }
    until("the expiry", async || {
        clock.advance(Duration::from_secs(1));
        server.client.instances("web").await.unwrap().is_empty()
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_registration_is_handed_over_without_anybody_hearing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    let (tasks, web) = (Tasks::root("host"), Instance::new("tcp", "10.0.0.1:80"));
    let announce = || server.client.announce(&tasks, "web", ServiceConfig::default(), web.clone());
    let first = announce();
    first.registered().await;
    let before = server.client.instances("web").await.unwrap();
    first.hand_over().await;
    assert_eq!(server.client.instances("web").await.unwrap(), before);
    let second = announce();
    second.registered().await;
    let after = server.client.instances("web").await.unwrap();
    assert_eq!((after.len(), after[0].index), (1, before[0].index), "the same registration");
    second.close().await;
    assert!(server.client.instances("web").await.unwrap().is_empty());
    server.stop().await;
}
