//! The real sources, against a controller and a discoverd that speak their wire.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router as Axum;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, put};
use futures_util::StreamExt as _;
use kit_http::sse;
use kit_tasks::{Running, Tasks};
use router::Deps;
use router_api::Route;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::support::*;

/// A controller and a discoverd in one.
#[derive(Clone)]
struct Cluster {
    routes: Arc<Mutex<Vec<Value>>>,
    route_events: broadcast::Sender<Value>,
    /// What a new watch of a service is told.
    services: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
    service_events: broadcast::Sender<Value>,
    registered: Arc<Mutex<BTreeMap<String, Value>>>,
}

impl Cluster {
    async fn start(tasks: &Tasks) -> (Self, Running) {
        let cluster = Self {
            routes: Arc::default(),
            route_events: broadcast::Sender::new(64),
            services: Arc::default(),
            service_events: broadcast::Sender::new(64),
            registered: Arc::default(),
        };
        let paths = Axum::new()
            .route("/routes", get(routes))
            .route("/events", get(route_events))
            .route("/services/{service}", get(watch).put(|| async {}))
            .route("/services/{service}/instances/{id}", put(register).delete(|| async {}));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = kit_http::finish(paths.with_state(cluster.clone()));
        let running = kit_http::serve(tasks, listener, app).unwrap();
        (cluster, running)
    }

    fn up(&self, service: &str, addr: &str, job: &str) {
        let instance = discoverd_api::Instance::new("tcp", addr).with_meta("FLYNN_JOB_ID", job);
        let event = json!({"service": service, "kind": "up", "instance": instance});
        self.services.lock().unwrap().entry(service.to_owned()).or_default().push(event.clone());
        drop(self.service_events.send(event));
    }

    fn set(&self, route: &Route) {
        let value = serde_json::to_value(route).unwrap();
        self.routes.lock().unwrap().push(value.clone());
        drop(self.route_events.send(json!({
            "id": 7, "object_type": "route", "object_id": route.id, "data": value
        })));
    }
}

async fn routes(State(cluster): State<Cluster>, headers: HeaderMap) -> axum::Json<Value> {
    // Basic authentication with an empty name and the first key.
    assert_eq!(headers["authorization"], "Basic OmtleTE=");
    axum::Json(cluster.routes.lock().unwrap().clone().into())
}

async fn route_events(State(cluster): State<Cluster>) -> Response {
    stream(Vec::new(), cluster.route_events.subscribe())
}

async fn watch(State(cluster): State<Cluster>, Path(service): Path<String>) -> Response {
    let live = cluster.service_events.subscribe();
    let known = cluster.services.lock().unwrap().get(&service).cloned().unwrap_or_default();
    let current = json!({"service": service, "kind": "current"});
    stream(known.into_iter().chain([current]).collect(), live)
}

async fn register(
    State(cluster): State<Cluster>,
    Path((service, _)): Path<(String, String)>,
    axum::Json(instance): axum::Json<Value>,
) {
    cluster.registered.lock().unwrap().insert(service, instance);
}

/// An event with `"end": true` ends the stream.
fn stream(first: Vec<Value>, live: broadcast::Receiver<Value>) -> Response {
    let live = futures_util::stream::unfold(live, |mut live| async move {
        let event = live.recv().await.ok()?;
        event.get("end").is_none().then_some((event, live))
    });
    let all = futures_util::stream::iter(first).chain(live);
    sse::response(all.map(|event| sse::Event::json(&event)))
}

#[tokio::test]
async fn routes_and_backends_come_from_the_cluster_and_the_router_registers() {
    let tasks = Tasks::root("test");
    let (cluster, server) = Cluster::start(&tasks).await;
    let backend = Backend::named("x").await;
    cluster.up("web", &backend.addr.to_string(), "h-1");
    cluster.routes.lock().unwrap().push(json!({"type": "udp"}));
    cluster.set(&http_route(1, "listed", "web"));
    let url = format!("http://{}", server.addr());
    let env = |name: &str| match name {
        "DISCOVERD" | "CONTROLLER_URL" => Some(url.clone()),
        "CONTROLLER_KEY" => Some("key1,key2".to_owned()),
        "EXTERNAL_IP" => Some("192.0.2.7".to_owned()),
        "FLYNN_JOB_ID" => Some("host-1".to_owned()),
        _ => None,
    };
    let dir = tempfile::tempdir().unwrap();
    let deps = Deps::from_env(&env).unwrap();
    let running = router::start(config(dir.path().to_owned()), deps, &tasks).await.unwrap();
    let served = async |host: &'static str| {
        eventually(host, || async { get_host(running.addrs[0], host, "/").await.status == 200 })
            .await;
    };
    served("listed").await;
    cluster.set(&http_route(2, "told", "web"));
    served("told").await;
    // What happened while the stream was away is in the list.
    drop(cluster.route_events.send(json!({"end": true})));
    let gone = cluster.routes.lock().unwrap().remove(1);
    assert_eq!(gone["domain"], "listed");
    cluster.set(&http_route(3, "missed", "web"));
    served("missed").await;
    eventually("the removed route to go", || async {
        get_host(running.addrs[0], "listed", "/").await.status == 404
    })
    .await;
    eventually("both registrations", || async { cluster.registered.lock().unwrap().len() == 2 })
        .await;
    let registered = cluster.registered.lock().unwrap().clone();
    let addr = |at: usize| format!("192.0.2.7:{}", running.addrs[at].port());
    assert_eq!(registered["router-http"]["addr"], addr(0));
    assert_eq!(registered["router-api"]["addr"], addr(2));
    assert_eq!(registered["router-api"]["meta"]["FLYNN_JOB_ID"], "host-1");
    tasks.stop();
}

#[tokio::test]
async fn a_missing_key_is_named() {
    let error = Deps::from_env(&|_| None).unwrap_err().to_string();
    assert!(error.contains("CONTROLLER_KEY"), "{error}");
}
