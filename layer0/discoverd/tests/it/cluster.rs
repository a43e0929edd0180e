//! Three members: a follower sends writers to the leader, a lost leader is replaced, one that comes back
//! catches up, members can leave and join.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use discoverd::{Config, Deps, Disk, StartError};
use discoverd_api::{Client, Instance, Servers, ServiceConfig};
use kit_clock::SystemClock;
use kit_tasks::{Running, Tasks};

use crate::support::{PATIENCE, ask, config, until};

/// One of several members, which share a port on different loopback addresses.
struct Member {
    tasks: Tasks,
    running: Running,
    client: Client,
}

fn host(n: u8) -> String {
    Ipv4Addr::new(127, 0, 0, n).to_string()
}

fn member_config(dir: &Path, n: u8, port: u16, voters: u8) -> Config {
    let listen = SocketAddr::from((Ipv4Addr::new(127, 0, 0, n), port));
    let peers = (1..=voters).map(|n| format!("{}:{port}", host(n))).collect();
    Config { listen: vec![listen], host: host(n), peers, ..config(&dir.join(n.to_string())) }
}

async fn start(config: Config) -> Result<Member, StartError> {
    let tasks = Tasks::root("member");
    let deps = Deps { clock: Arc::new(SystemClock::start()), disk: Disk::Directory };
    let running = discoverd::start_with(config, deps, &tasks).await?;
    let client = Client::new(&Servers::parse(&running.addr().to_string())).unwrap();
    Ok(Member { tasks, running, client })
}

/// Starts members on a port that is free on all their addresses.
async fn start_all(dir: &Path, count: u8) -> (Vec<Member>, u16) {
    for _ in 0..50 {
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = probe.local_addr().unwrap().port();
        let rest: Vec<_> =
            (2..=count).map(|n| TcpListener::bind((Ipv4Addr::new(127, 0, 0, n), port))).collect();
        let free = rest.iter().all(Result::is_ok);
        drop((probe, rest));
        if !free {
            continue;
        }
        let mut members = Vec::new();
        for n in 1..=count {
            match start(member_config(dir, n, port, count)).await {
                Ok(member) => members.push(member),
                Err(StartError::Listen { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        if members.len() == usize::from(count) {
            return (members, port);
        }
        for member in members {
            member.tasks.shutdown(PATIENCE).await;
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
    panic!("no port is free on {count} loopback addresses");
}

/// Which of the members leads, once all that are asked agree.
async fn leader_of(members: &[&Member]) -> String {
    let leader = std::sync::Mutex::new(String::new());
    until("an agreed leader", async || {
        let mut named = Vec::new();
        for member in members {
            named.push(ask(member.running.addr(), "GET", "/raft/leader", "", "").await);
        }
        let agreed = named.iter().all(|one| one.status == 200 && one.body == named[0].body);
        // The leader answers a write itself only when it knows that it leads.
        let body: Option<discoverd_api::RaftLeader> = serde_json::from_str(&named[0].body).ok();
        let Some(body) = body.filter(|_| agreed) else { return false };
        let alive = members.iter().any(|member| member.running.addr().to_string() == body.host);
        *leader.lock().unwrap() = body.host;
        alive
    })
    .await;
    leader.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_replace_a_lost_leader_and_send_writers_to_the_present_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut members, port) = start_all(&dir.path().join("three"), 3).await;
    let leader = leader_of(&members.iter().collect::<Vec<_>>()).await;
    let follower = members.iter().find(|one| one.running.addr().to_string() != leader).unwrap();
    let json = "Content-Type: application/json\r\n";
    let answer = ask(follower.running.addr(), "PUT", "/services/abc?x=1", json, "{}").await;
    assert_eq!((answer.status, answer.body.as_str()), (307, ""));
    assert_eq!(
        answer.header("location"),
        Some(format!("http://{leader}/services/abc?x=1").as_str())
    );
    let bad = ask(follower.running.addr(), "PUT", "/services/A", json, "{}").await;
    assert_eq!(bad.status, 400, "what is wrong is refused by any member");
    follower.client.add_service("web", ServiceConfig::default()).await.unwrap();
    let instance = Instance::new("tcp", "10.0.0.1:80");
    follower.client.put_instance("web", &instance).await.unwrap();
    for member in &members {
        until("the copy", async || member.client.instances("web").await.unwrap().len() == 1).await;
    }
    let peers = ask(follower.running.addr(), "GET", "/raft/peers", "", "").await.body;
    let mut peers: Vec<String> = serde_json::from_str(&peers).unwrap();
    peers.sort();
    assert_eq!(peers, [1, 2, 3].map(|n| format!("{}:{port}", host(n))));

    let lost = members.iter().position(|one| one.running.addr().to_string() == leader).unwrap();
    let lost_member = members.remove(lost);
    lost_member.tasks.shutdown(PATIENCE).await;
    let next = leader_of(&members.iter().collect::<Vec<_>>()).await;
    assert_ne!(next, leader);
    let second = Instance::new("tcp", "10.0.0.2:80");
    members[0].client.put_instance("web", &second).await.unwrap();
    let n = u8::try_from(lost + 1).unwrap();
    let back = start(member_config(&dir.path().join("three"), n, port, 3)).await.unwrap();
    until("the copy of the one that came back", async || {
        back.client.instances("web").await.unwrap().len() == 2
    })
    .await;
    members.push(back);

    let gone = members.iter().find(|one| one.running.addr().to_string() != next).unwrap();
    let gone = gone.running.addr().to_string();
    // One that is taken out hears no more of the others; who stays is asked.
    let stays = members.iter().find(|one| one.running.addr().to_string() != gone).unwrap();
    stays.client.remove_peer(&gone).await.unwrap();
    until("two voters", async || stays.client.raft_peers().await.unwrap().len() == 2).await;
    stays.client.add_peer(&gone).await.unwrap();
    until("three voters", async || stays.client.raft_peers().await.unwrap().len() == 3).await;
    for member in members {
        member.tasks.shutdown(PATIENCE).await;
    }
}
