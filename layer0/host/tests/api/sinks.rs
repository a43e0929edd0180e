//! Sinks against a log aggregator of this process: what is sent, from where, and how often.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use futures_util::StreamExt as _;
use host_api::EventKind;
use kit_syslog::{FrameCodec, Message, StructuredData, rfc3339};
use kit_tasks::Tasks;
use serde_json::json;
use tokio_util::codec::FramedRead;

use crate::fake::{Machine, PATIENCE, Running};

const APP: &str = "0f0e0d0c-1111-4222-8333-abcdefabcdef";

/// Takes lines and remembers them until it forgets.
#[derive(Clone, Debug)]
struct Aggregator {
    taken: Arc<Mutex<Vec<Message>>>,
    config: serde_json::Value,
}

impl Aggregator {
    async fn start(tasks: &Tasks) -> Self {
        let taken: Arc<Mutex<Vec<Message>>> = Arc::default();
        let of_cursors = taken.clone();
        let cursors = move || async move {
            let taken = of_cursors.lock().unwrap();
            let seq = |message: &Message| {
                message.structured_data.as_ref().and_then(StructuredData::flynn_seq)
            };
            kit_http::Json(match taken.last() {
                Some(last) => {
                    json!({"host1": {"time": rfc3339(&last.timestamp), "seq": seq(last)}})
                }
                None => json!({}),
            })
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let router = Router::new().route("/cursors", get(cursors));
        let http = kit_http::serve(tasks, listener, router).unwrap().addr();
        let lines = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = lines.local_addr().unwrap();
        let (node, of_lines) = (tasks.clone(), taken.clone());
        tasks.spawn_until_stop("lines", async move {
            while let Ok((stream, _)) = lines.accept().await {
                let taken = of_lines.clone();
                node.spawn_until_stop("host", async move {
                    let mut frames = FramedRead::new(stream, FrameCodec::stream());
                    while let Some(Ok(frame)) = frames.next().await {
                        taken.lock().unwrap().push(Message::parse(&frame).unwrap());
                    }
                });
            }
        });
        let config = json!({"addr": addr.to_string(), "http": format!("http://{http}")});
        Self { taken, config }
    }

    fn texts(&self) -> Vec<String> {
        let text = |message: &Message| String::from_utf8_lossy(&message.msg).into_owned();
        self.taken.lock().unwrap().iter().map(text).collect()
    }

    async fn has(&self, want: &[&str]) {
        let there = async {
            while self.texts() != want {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, there).await;
        assert!(waited.is_ok(), "{:?} instead of {want:?}", self.texts());
    }
}

/// Runs a job of the app that prints these texts, to its clean-up.
async fn print(machine: &Machine, host: &Running, id: &str, text: &str) {
    let mut job = machine.job(id, &["say", text, "exit", "0"]).await;
    job.metadata.insert("flynn-controller.app".to_owned(), APP.to_owned());
    job.metadata.insert("flynn-controller.type".to_owned(), "web".to_owned());
    let mut events = host.client.events(Some(&job.id)).await.unwrap();
    host.client.add_job(&job).await.unwrap();
    loop {
        let next = tokio::time::timeout(PATIENCE, events.next_event()).await.unwrap();
        if next.unwrap().unwrap().event == EventKind::Cleanup {
            return;
        }
    }
}

#[tokio::test]
async fn an_aggregator_gets_every_line_once_whoever_restarts() {
    let tasks = Tasks::root("test");
    let aggregator = Aggregator::start(&tasks).await;
    let machine = Machine::new();
    let host = machine.start().await;
    print(&machine, &host, "host1-a", "before\nthe sink\n").await;
    let info = json!({"kind": "logaggregator", "config": aggregator.config});
    let (status, body) = host.ask("PUT", "/sinks/one", &info.to_string()).await;
    assert_eq!(status, 200, "{body}");
    aggregator.has(&["before", "the sink"]).await;
    print(&machine, &host, "host1-b", "second").await;
    // The end of a job is told after its lines have left; arriving may take a moment.
    aggregator.has(&["before", "the sink", "second"]).await;
    let first = aggregator.taken.lock().unwrap()[0].clone();
    assert_eq!((first.app_name.as_str(), first.proc_id.as_str()), (APP, "web.host1-a"));
    assert_eq!((first.hostname.as_str(), first.msg_id.as_str()), ("host1", "ID1"));
    host.stop().await;
    // The sink is durable, and the daemon goes on where the aggregator is.
    let host = machine.start().await;
    print(&machine, &host, "host1-c", "third\n").await;
    aggregator.has(&["before", "the sink", "second", "third"]).await;
    host.stop().await;
    // An aggregator that lost its memory gets all again.
    aggregator.taken.lock().unwrap().clear();
    let host = machine.start().await;
    aggregator.has(&["before", "the sink", "second", "third"]).await;
    host.stop().await;
    tasks.stop();
}

#[tokio::test]
async fn sinks_are_listed_refused_and_removed() {
    let machine = Machine::new();
    let host = machine.start().await;
    let config = json!({"addr": "127.0.0.1:9"});
    let body = json!({"id": "x", "kind": "logaggregator", "config": config}).to_string();
    let echo =
        r#"{"id":"x","kind":"logaggregator","config":{"addr":"127.0.0.1:9"},"host_managed":false}"#;
    for (method, path, body, status, want) in [
        ("PUT", "/sinks/x", body.as_str(), 200, echo),
        ("PUT", "/sinks/x", body.as_str(), 200, echo),
        (
            "GET",
            "/sinks",
            "",
            200,
            r#"[{"id":"x","kind":"logaggregator","config":{"addr":"127.0.0.1:9"}}]"#,
        ),
        ("PUT", "/sinks/y", r#"{"kind":"odd"}"#, 400, ""),
        ("PUT", "/sinks/y", r#"{"kind":"logaggregator","config":{}}"#, 400, ""),
        ("DELETE", "/sinks/x", "", 200, "{}"),
        (
            "DELETE",
            "/sinks/x",
            "",
            404,
            r#"{"code":"object_not_found","message":"sink with that id couldn't be found","retry":false}"#,
        ),
        ("GET", "/sinks", "", 200, "[]"),
    ] {
        let (got, text) = host.ask(method, path, body).await;
        assert_eq!(got, status, "{method} {path}: {text}");
        if !want.is_empty() {
            assert_eq!(text, want, "{method} {path}");
        }
    }
    host.stop().await;
}
