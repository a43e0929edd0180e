//! The rest of the HTTP surface: the port that HTTP shares, the servers' own endpoints, redirects' inputs,
//! notification and shutdown.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use discoverd_api::{DiscoverdConfig, Instance, ServiceConfig};
use kit_http::Json;
use kit_tasks::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::lab::Lab;
use crate::support::{PATIENCE, Server, config, patiently, until};

#[tokio::test]
async fn the_servers_speak_about_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    let addr = server.addr();
    for (path, body) in [
        ("/raft/leader", format!(r#"{{"host":"{addr}"}}"#)),
        ("/raft/peers", format!(r#"["{addr}"]"#)),
        ("/ping", String::new()),
    ] {
        let answer = server.ask("GET", path, "").await;
        assert_eq!((answer.status, answer.body), (200, body), "{path}");
    }
    let answer = server.ask("PUT", &format!("/raft/peers/{addr}"), "").await;
    assert_eq!(
        answer.body,
        format!(r#"{{"last_index":{}}}"#, answer.index()),
        "a known peer is fine"
    );
    assert_eq!(server.ask("DELETE", "/raft/peers/192.0.2.9:1111", "").await.status, 200);
    assert_eq!(server.ask("POST", "/raft/promote", "").await.status, 200);
    let status = server.ask("GET", "/.well-known/status", "").await;
    assert!(status.body.contains("\"status\": \"healthy\""), "{}", status.body);
    server.stop().await;
}

#[tokio::test]
async fn the_first_byte_decides_and_silence_ends() {
    let dir = tempfile::tempdir().unwrap();
    let settings = config(dir.path());
    let server =
        Server::start(discoverd::Config { first_byte: Duration::from_millis(1), ..settings }).await;
    for first in [&b"X"[..], b"\0", b""] {
        let mut stream = TcpStream::connect(server.addr()).await.unwrap();
        stream.write_all(first).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end too.
        let read = patiently("the end of the connection", stream.read_to_end(&mut answer)).await;
        assert!(read.is_err() || answer.is_empty(), "{first:?}: {answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_heartbeat_moves_no_index_and_a_change_does() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    server.client.add_service("web", ServiceConfig::default()).await.unwrap();
    let instance = Instance::new("tcp", "10.0.0.1:80");
    server.client.put_instance("web", &instance).await.unwrap();
    let before = server.ask("GET", "/ping", "").await.index();
    for _ in 0..10 {
        server.client.put_instance("web", &instance).await.unwrap();
    }
    assert_eq!(server.ask("GET", "/ping", "").await.index(), before);
    let changed = instance.with_meta("k", "v");
    server.client.put_instance("web", &changed).await.unwrap();
    let listed = server.client.instances("web").await.unwrap();
    assert!(listed[0].same_registration(&changed));
    assert!(listed[0].index <= before, "the first registration counts");
    server.stop().await;
}

/// A daemon that notes what it is told.
struct Host {
    told: Arc<Mutex<Vec<DiscoverdConfig>>>,
    url: String,
    tasks: Tasks,
}

impl Host {
    async fn start() -> Self {
        let (told, tasks) = (Arc::<Mutex<Vec<_>>>::default(), Tasks::root("host"));
        let note = async |State(told): State<Arc<Mutex<Vec<_>>>>, Json(config)| {
            told.lock().unwrap().push(config);
        };
        let routes = Router::new().route("/host/discoverd", post(note));
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let routes = routes.with_state(Arc::clone(&told));
        let host = kit_http::serve(&tasks, listener, routes).unwrap();
        Self { told, url: format!("http://{}/host/discoverd", host.addr()), tasks }
    }

    async fn first_told(&self) -> DiscoverdConfig {
        until("the notification", async || !self.told.lock().unwrap().is_empty()).await;
        self.told.lock().unwrap()[0].clone()
    }
}

#[tokio::test]
async fn a_host_is_told_to_ask_its_own_server_first_whether_that_votes_or_not() {
    let mut lab = Lab::running(3).await;
    for n in [4, 3] {
        let host = Host::start().await;
        lab.notify = Some(host.url.clone());
        if n == 3 {
            lab.kill(n);
        }
        lab.start(n).await;
        let own = lab.addr(n).to_string();
        let others = (1..=3).map(|voter| lab.addr(voter).to_string()).filter(|addr| *addr != own);
        let want: BTreeSet<_> = others.collect();
        let url = host.first_told().await.url;
        let mut told = url.split(',').map(str::to_owned);
        assert_eq!(told.next(), Some(own), "{url}");
        assert_eq!(told.collect::<BTreeSet<_>>(), want);
        host.tasks.shutdown(PATIENCE).await;
    }
}

#[tokio::test]
async fn the_host_is_told_when_the_leader_is_known_and_when_dns_is_up() {
    let host = Host::start().await;
    let dir = tempfile::tempdir().unwrap();
    let settings = discoverd::Config {
        notify: Some(host.url.clone()),
        dns: Some(discoverd::DnsConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            recursors: Vec::new(),
        }),
        job_id: "host1-j".to_owned(),
        ..config(dir.path())
    };
    let server = Server::start(settings).await;
    let want = DiscoverdConfig {
        job_id: "host1-j".to_owned(),
        url: server.addr().to_string(),
        dns: server.running.addrs[1].to_string(),
    };
    assert_eq!(host.first_told().await, want);
    server.stop().await;
    host.tasks.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn shutdown_deregisters_answers_and_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    let answer = server.ask("POST", "/shutdown", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.body.starts_with(r#"{"last_index":"#), "{}", answer.body);
    let addr = server.addr();
    until("the listener's end", async || TcpStream::connect(addr).await.is_err()).await;
    server.stop().await;
    let again = Server::start(config(dir.path())).await;
    let own = again.client.instances("discoverd").await.unwrap();
    assert_eq!(own.len(), 1, "the old instance was removed, the new one has another port: {own:?}");
    again.stop().await;
}
