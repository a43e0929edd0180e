//! What the overlay talks to, as far as it talks to it: discoverd's metadata with compare-and-swap
//! and event stream, and the host's status and network.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post, put};
use discoverd_api::{Event, ServiceMeta};
use futures_util::stream;
use host_api::{DiscoverdConfig, HostStatus, NetworkConfig};
use kit_http::{ApiError, Json, sse};
use kit_tasks::{Running, Tasks};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Generous: only a test that fails waits so long.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until a condition holds.
pub(crate) async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// Servers outlive what is tested, so that it can say goodbye; they end with the test's runtime.
async fn serve(ip: Ipv4Addr, router: Router) -> Running {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    kit_http::serve(&Tasks::root("servers"), listener, router).unwrap()
}

/// A discoverd with one service.
#[derive(Clone)]
pub(crate) struct Discoverd {
    inner: Arc<Mutex<Registry>>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Registry {
    meta: Option<ServiceMeta>,
    instances: BTreeSet<String>,
}

impl Discoverd {
    pub(crate) async fn start() -> (Self, Running) {
        Self::start_on(Ipv4Addr::LOCALHOST).await
    }

    pub(crate) async fn start_on(ip: Ipv4Addr) -> (Self, Running) {
        let discoverd = Self { inner: Arc::default(), changes: watch::channel(0).0 };
        let router = Router::new()
            .route("/services/flannel", put(async || Json(())).get(events))
            .route("/services/flannel/meta", get(read_meta).put(write_meta))
            .route("/services/flannel/instances", get(instances))
            .route("/services/flannel/instances/{id}", put(add_instance).delete(async || Json(())))
            .with_state(discoverd.clone());
        (discoverd, serve(ip, router).await)
    }

    /// The metadata as it stands.
    pub(crate) fn meta(&self) -> serde_json::Value {
        let meta = self.inner.lock().unwrap().meta.clone();
        meta.map(|meta| meta.parse().unwrap()).unwrap_or_default()
    }

    /// Writes metadata from outside.
    pub(crate) fn set(&self, data: &serde_json::Value) {
        let index = self.changes.borrow().to_owned() + 1;
        self.inner.lock().unwrap().meta = Some(ServiceMeta::replace(index, data).unwrap());
        self.changes.send_replace(index);
    }

    /// Registers an instance from outside.
    pub(crate) fn register(&self, addr: &str) {
        self.inner.lock().unwrap().instances.insert(addr.to_owned());
    }

    /// The metadata without the times in it.
    pub(crate) fn timeless_meta(&self) -> serde_json::Value {
        let mut meta = self.meta();
        let subnets = meta.get_mut("subnets").and_then(serde_json::Value::as_object_mut);
        for lease in subnets.into_iter().flat_map(|all| all.values_mut()) {
            let seen = lease.as_object_mut().and_then(|lease| lease.remove("Seen"));
            assert!(seen.is_none_or(|seen| seen.as_u64() > Some(1_700_000_000)));
        }
        meta
    }

    pub(crate) fn instances(&self) -> BTreeSet<String> {
        self.inner.lock().unwrap().instances.clone()
    }
}

async fn read_meta(State(discoverd): State<Discoverd>) -> Result<Json<ServiceMeta>, ApiError> {
    let meta = discoverd.inner.lock().unwrap().meta.clone();
    meta.map(Json).ok_or_else(|| ApiError::object_not_found("service meta not found"))
}

async fn write_meta(
    State(discoverd): State<Discoverd>,
    Json(mut meta): Json<ServiceMeta>,
) -> Result<Json<ServiceMeta>, ApiError> {
    let mut inner = discoverd.inner.lock().unwrap();
    let stored = inner.meta.as_ref().map_or(0, |meta| meta.index);
    if stored != meta.index {
        return Err(match meta.index {
            0 => ApiError::object_exists("exists"),
            _ => ApiError::precondition_failed("wrong index"),
        });
    }
    meta.index = *discoverd.changes.borrow() + 1;
    inner.meta = Some(meta.clone());
    discoverd.changes.send_replace(meta.index);
    Ok(Json(meta))
}

async fn add_instance(
    State(discoverd): State<Discoverd>,
    Path(_id): Path<String>,
    Json(instance): Json<discoverd_api::Instance>,
) -> Json<()> {
    discoverd.inner.lock().unwrap().instances.insert(instance.addr);
    Json(())
}

async fn instances(State(discoverd): State<Discoverd>) -> Json<Vec<discoverd_api::Instance>> {
    let addrs = discoverd.instances();
    Json(addrs.iter().map(|addr| discoverd_api::Instance::new("tcp", addr)).collect())
}

/// The metadata, the mark of the present, then every change.
async fn events(State(discoverd): State<Discoverd>) -> Response {
    let changes = discoverd.changes.subscribe();
    let first = stream::iter([sse::Event::json(&Event::current("flannel"))]);
    let live = stream::unfold((discoverd, changes), async |(discoverd, mut changes)| {
        changes.changed().await.ok()?;
        let meta = discoverd.inner.lock().unwrap().meta.clone()?;
        Some((sse::Event::json(&Event::meta("flannel", meta)), (discoverd, changes)))
    });
    sse::response(futures_util::StreamExt::chain(first, live))
}

/// A host daemon.
#[derive(Clone, Default)]
pub(crate) struct Host {
    inner: Arc<Mutex<HostState>>,
}

#[derive(Default)]
struct HostState {
    discoverd: Option<String>,
    told: Vec<NetworkConfig>,
}

impl Host {
    pub(crate) async fn start() -> (Self, String) {
        Self::start_on(Ipv4Addr::LOCALHOST).await
    }

    pub(crate) async fn start_on(ip: Ipv4Addr) -> (Self, String) {
        let host = Self::default();
        let router = Router::new()
            .route("/host/status", get(status))
            .route("/host/network", post(network))
            .with_state(host.clone());
        let running = serve(ip, router).await;
        (host, format!("http://{}", running.addr()))
    }

    /// From now on the host knows a discoverd.
    pub(crate) fn knows(&self, discoverd: &Running) {
        self.inner.lock().unwrap().discoverd = Some(discoverd.addr().to_string());
    }

    /// From now on it knows none.
    pub(crate) fn forget_discoverd(&self) {
        self.inner.lock().unwrap().discoverd = None;
    }

    /// What it was told of its network.
    pub(crate) fn told(&self) -> Vec<NetworkConfig> {
        self.inner.lock().unwrap().told.clone()
    }
}

async fn status(State(host): State<Host>) -> Json<HostStatus> {
    let url = host.inner.lock().unwrap().discoverd.clone();
    Json(HostStatus {
        id: "host1".parse().unwrap(),
        tags: Default::default(),
        pid: 1,
        url: String::new(),
        discoverd: url.map(|url| DiscoverdConfig { url, ..DiscoverdConfig::default() }),
        network: None,
        version: String::new(),
        flags: None,
        resources: None,
        draining: false,
        isolation: None,
    })
}

async fn network(State(host): State<Host>, Json(config): Json<NetworkConfig>) {
    host.inner.lock().unwrap().told.push(config);
}
