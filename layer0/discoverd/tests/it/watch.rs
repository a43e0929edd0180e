//! Event streams: what a watcher is told, in which order, and that many instances cost no watcher anything.

use std::sync::Arc;
use std::time::Duration;

use discoverd::Deps;
use discoverd_api::{Event, EventKind, Instance, LeaderType, ServiceConfig, ServiceMeta};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{HandClock, Server, config, patiently};

const MANUAL: ServiceConfig = ServiceConfig { leader_type: LeaderType::Manual };

/// The text of a stream up to the first `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 65536];
    patiently("the rest of the stream", async {
        while !text.contains(end) {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    })
    .await;
    text
}

async fn open(server: &Server, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The data lines of a chunked stream.
fn data(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

#[tokio::test]
async fn the_present_comes_first_and_then_the_marker() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    server.client.add_service("web", ServiceConfig::default()).await.unwrap();
    for addr in ["10.0.0.1:80", "10.0.0.2:80"] {
        server.client.put_instance("web", &Instance::new("tcp", addr)).await.unwrap();
    }
    server.client.set_meta("web", &ServiceMeta::create(&1).unwrap()).await.unwrap();
    let mut stream = open(&server, "/services/web").await;
    let text = read_until(&mut stream, "\"current\"}\n\n").await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"),
        "{text}"
    );
    let kinds = |text: &str| -> Vec<String> {
        let events =
            data(text).into_iter().map(|line| serde_json::from_str::<Event>(line).unwrap());
        events
            .map(|event| {
                format!("{} {}", event.kind, event.instance.map_or(String::new(), |i| i.addr))
            })
            .collect()
    };
    assert_eq!(
        kinds(&text),
        ["up 10.0.0.1:80", "up 10.0.0.2:80", "leader 10.0.0.1:80", "service_meta ", "current "]
    );
    let first = Instance::new("tcp", "10.0.0.1:80");
    server.client.remove_instance("web", &first.id).await.unwrap();
    let text = read_until(&mut stream, "\"leader\"").await;
    assert_eq!(kinds(&text), ["down 10.0.0.1:80", "leader 10.0.0.2:80"]);
    let mut leaders = open(&server, "/services/web/leader").await;
    assert_eq!(kinds(&read_until(&mut leaders, "}\n\n").await), ["leader 10.0.0.2:80"]);
    let mut instances = open(&server, "/services/web/instances").await;
    assert_eq!(kinds(&read_until(&mut instances, "}\n\n").await), ["up 10.0.0.2:80"]);
    let mut unknown = open(&server, "/services/Not.Yet").await;
    let text = read_until(&mut unknown, "}\n\n").await;
    assert_eq!(data(&text), [r#"{"service":"Not.Yet","kind":"current"}"#]);
    server.stop().await;
}

#[tokio::test]
async fn a_manual_service_tells_what_was_captured() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    let client = &server.client;
    client.add_service("db", MANUAL).await.unwrap();
    let (old, new) = (Instance::new("tcp", "10.0.0.1:5432"), Instance::new("tcp", "10.0.0.2:5432"));
    client.put_instance("db", &old).await.unwrap();
    client.put_instance("db", &new).await.unwrap();
    client.set_leader("db", &old.id).await.unwrap();
    let mut watch = client.watch("db");
    patiently("the present", async { while watch.next().await.kind != EventKind::Current {} })
        .await;
    let meta = ServiceMeta::create(&serde_json::json!({"generation": 1})).unwrap();
    let stored = client.set_meta("db", &meta.with_leader(new.id.clone())).await.unwrap();
    client.set_leader("db", &new.id).await.unwrap();
    client.remove_instance("db", &new.id).await.unwrap();
    assert_eq!(client.leader("db").await.unwrap(), None, "away");
    client.put_instance("db", &new).await.unwrap();
    assert_eq!(client.leader("db").await.unwrap().map(|i| i.id), Some(new.id.clone()), "back");
    let mut told = Vec::new();
    for _ in 0..5 {
        told.push(serde_json::to_string(&patiently("an event", watch.next()).await).unwrap());
    }
    let id = &new.id;
    let index =
        |text: &str| text.split("\"index\":").nth(1).unwrap().trim_end_matches('}').to_owned();
    let (first, second) = (index(&told[1]), index(&told[4]));
    assert_ne!(first, second, "one that comes back gets a new index");
    let about = |kind: &str, index: &str| {
        format!(
            r#"{{"service":"db","kind":"{kind}","instance":{{"id":"{id}","addr":"10.0.0.2:5432","proto":"tcp","index":{index}}}}}"#
        )
    };
    assert_eq!(
        told,
        [
            format!(
                r#"{{"service":"db","kind":"service_meta","service_meta":{{"data":{{"generation":1}},"index":{}}}}}"#,
                stored.index
            ),
            about("leader", &first),
            about("leader", &first),
            about("down", &first),
            about("up", &second),
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_instances_reach_a_watcher_and_heartbeats_stay_cheap() {
    const COUNT: usize = 10_000;
    let dir = tempfile::tempdir().unwrap();
    // Nothing expires, however long the machine takes for as many.
    let deps = Deps { clock: Arc::new(HandClock::default()), ..Deps::default() };
    let server = Server::start_with(config(dir.path()), deps).await;
    server.client.add_service("web", ServiceConfig::default()).await.unwrap();
    let mut early = server.client.watch("web");
    let addr = |n: usize| format!("10.{}.{}.{}:80", n / 65536, n / 256 % 256, n % 256);
    let instances: Vec<_> = (0..COUNT).map(|n| Instance::new("tcp", &addr(n))).collect();
    let register = async || {
        let puts = instances.iter().map(|instance| server.client.put_instance("web", instance));
        let puts = futures_util::stream::iter(puts);
        futures_util::StreamExt::buffer_unordered(puts, 64)
    };
    let results: Vec<_> = futures_util::StreamExt::collect(register().await).await;
    results.into_iter().for_each(|result| result.unwrap());
    let count_ups = async |watch: &mut discoverd_api::Watch| {
        patiently("all ups", async {
            while watch.instances().len() < COUNT {
                watch.next().await;
            }
        })
        .await;
    };
    count_ups(&mut early).await;
    let before = server.ask("GET", "/ping", "").await.index();
    let results: Vec<_> = futures_util::StreamExt::collect(register().await).await;
    results.into_iter().for_each(|result| result.unwrap());
    assert_eq!(server.ask("GET", "/ping", "").await.index(), before, "heartbeats are in no log");
    let mut late = server.client.watch("web");
    count_ups(&mut late).await;
    server.client.remove_service("web").await.unwrap();
    patiently("all downs, in one batch", async {
        while !late.instances().is_empty() {
            late.next().await;
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_watcher_that_reads_nothing_is_told_so_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    server.client.add_service("web", ServiceConfig::default()).await.unwrap();
    let mut stream = open(&server, "/services/web").await;
    let first = read_until(&mut stream, "\"current\"").await;
    assert!(first.contains("current"));
    // Far more than the sockets of both sides hold.
    let long = "x".repeat(200_000);
    for round in 0..150 {
        let instance =
            Instance::new("tcp", "10.0.0.1:80").with_meta("n", &format!("{round}{long}"));
        patiently("a write beside a blocked watcher", server.client.put_instance("web", &instance))
            .await
            .unwrap();
    }
    let text = read_until(&mut stream, "blocked receiver\n\n").await;
    let error = "event: error\ndata: discoverd: channel send failed due to blocked receiver\n\n";
    assert!(text.contains(error), "{}", &text[text.len() - 200..]);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_lives_through_a_restart_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    // An address of its own, so that nobody takes its port meanwhile.
    let own = std::net::SocketAddr::from(([127, 0, 0, 77], 0));
    let settings = discoverd::Config { listen: vec![own], ..config(dir.path()) };
    let server = Server::start(settings).await;
    server.client.add_service("web", ServiceConfig::default()).await.unwrap();
    let [a, b, c] = ["a:1", "b:1", "c:1"].map(|addr| Instance::new("tcp", addr));
    for instance in [&a, &b] {
        server.client.put_instance("web", instance).await.unwrap();
    }
    let addr = server.addr();
    let mut watch = server.client.watch("web");
    patiently("the present", async { while watch.next().await.kind != EventKind::Current {} })
        .await;
    server.stop().await;
    // Another one changes things where this watcher does not look, on the same disk.
    let hidden = Server::start(config(dir.path())).await;
    hidden.client.remove_instance("web", &a.id).await.unwrap();
    hidden.client.put_instance("web", &b.clone().with_meta("k", "v")).await.unwrap();
    hidden.client.put_instance("web", &c).await.unwrap();
    hidden.stop().await;
    let settings = discoverd::Config { listen: vec![addr], ..config(dir.path()) };
    let server = Server::start(settings).await;
    let mut told = Vec::new();
    patiently("what was missed", async {
        loop {
            let event = watch.next().await;
            told.push(format!(
                "{} {}",
                event.kind,
                event.instance.map_or(String::new(), |i| i.addr)
            ));
            if event.kind == EventKind::Current {
                break;
            }
        }
    })
    .await;
    assert_eq!(told, ["update b:1", "up c:1", "leader b:1", "down a:1", "current "]);
    server.stop().await;
}

#[tokio::test]
async fn waiting_for_instances_ends_with_the_first_or_says_it_took_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    let none = server.client.instances_wait("web", Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(none.to_string(), "discoverd: timed out waiting for instances");
    let waiting = server.client.instances_wait("web", crate::support::PATIENCE);
    let instance = Instance::new("tcp", "a:1");
    let arriving = async {
        server.client.add_service("web", ServiceConfig::default()).await.unwrap();
        server.client.put_instance("web", &instance).await.unwrap();
    };
    let (found, ()) = tokio::join!(waiting, arriving);
    assert_eq!(found.unwrap()[0].id, instance.id);
    server.stop().await;
}
