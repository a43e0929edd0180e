//! A router with sources that tests move by hand, backends that answer as told, and a client that
//! shows every byte.

mod backend;
mod client;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::Utc;
use kit_tasks::{Running, Tasks};
use router::{
    BackendSource, Config, CookieKey, Deps, Following, Instance, Instances, Limits, RouteSource,
    RouteUpdate, SourceError,
};
use router_api::Route;
use tokio::sync::{mpsc, watch};

pub(crate) use backend::{Backend, ok};
pub(crate) use client::{Answer, Connection, Head, get_host};

/// Generous: the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for a condition.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let start = Instant::now();
    while !check().await {
        assert!(start.elapsed() < DEADLINE, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Something that must happen before the deadline.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let Ok(done) = tokio::time::timeout(DEADLINE, work).await else {
        panic!("waited in vain for: {what}")
    };
    done
}

/// Routes and backends as tests set them. Without a first setting the source never says anything.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    routes: watch::Sender<Option<Vec<Route>>>,
    services: Mutex<BTreeMap<String, watch::Sender<Option<Instances>>>>,
}

impl Sources {
    pub(crate) fn set_routes(&self, routes: &[Route]) {
        self.routes.send_replace(Some(routes.to_vec()));
    }

    pub(crate) fn set(&self, service: &str, instances: Instances) {
        self.service(service).send_replace(Some(instances));
    }

    pub(crate) fn set_addrs(&self, service: &str, addrs: &[SocketAddr]) {
        let texts: Vec<String> = addrs.iter().map(ToString::to_string).collect();
        self.set(service, Instances::at(texts.iter().map(String::as_str)));
    }

    fn service(&self, name: &str) -> watch::Sender<Option<Instances>> {
        let mut services = self.services.lock().unwrap();
        services.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(None)).clone()
    }
}

impl RouteSource for Sources {
    fn follow(&self, updates: mpsc::Sender<RouteUpdate>) -> Following<'_> {
        let mut routes = self.routes.subscribe();
        routes.mark_changed();
        Box::pin(async move {
            while routes.changed().await.is_ok() {
                let now = routes.borrow_and_update().clone();
                if let Some(now) = now {
                    drop(updates.send(RouteUpdate::All(now)).await);
                }
            }
            Err(SourceError::ended("the test is over"))
        })
    }
}

impl BackendSource for Sources {
    fn follow(&self, service: String, updates: mpsc::Sender<Instances>) -> Following<'_> {
        let mut state = self.service(&service).subscribe();
        state.mark_changed();
        Box::pin(async move {
            while state.changed().await.is_ok() {
                let now = state.borrow_and_update().clone();
                if let Some(now) = now {
                    drop(updates.send(now).await);
                }
            }
            Err(SourceError::ended("the test is over"))
        })
    }
}

/// A running router. Its addresses are one plain HTTP, one HTTPS, the API.
pub(crate) struct Router {
    pub(crate) sources: Arc<Sources>,
    pub(crate) running: Running,
    pub(crate) tasks: Tasks,
    _dir: tempfile::TempDir,
}

impl Router {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path().to_owned());
        change(&mut config);
        let (sources, tasks) = (Arc::new(Sources::default()), Tasks::root("test"));
        let deps = Deps::new(sources.clone(), sources.clone());
        let running = router::start(config, deps, &tasks).await.unwrap();
        Self { sources, running, tasks, _dir: dir }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.running.addrs[0]
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.running.addrs[self.running.addrs.len() - 2]
    }

    pub(crate) fn api(&self) -> SocketAddr {
        self.running.addrs[self.running.addrs.len() - 1]
    }

    /// Gives the router these routes and waits until it serves or refuses each.
    pub(crate) async fn serve(&self, routes: &[Route]) {
        self.sources.set_routes(routes);
        eventually("routes to be served", || async {
            let detail = self.detail().await;
            let problems = detail["problems"].as_array().unwrap().len();
            let served = usize::try_from(detail["routes"].as_u64().unwrap()).unwrap();
            detail["routes_from"] == "controller" && served + problems >= routes.len()
        })
        .await;
    }

    /// One route to one service with these backends, ready to be asked.
    pub(crate) async fn route_to(&self, route: Route, addrs: &[SocketAddr]) {
        self.sources.set_addrs(&route.service, addrs);
        self.serve(&[route]).await;
        self.backends(addrs.len()).await;
    }

    /// Waits until this many backends are known.
    pub(crate) async fn backends(&self, count: usize) {
        eventually("backends to be known", || async { self.detail().await["backends"] == count })
            .await;
    }

    pub(crate) async fn detail(&self) -> serde_json::Value {
        let answer = get_host(self.api(), "router-api", "/.well-known/status").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let status: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        status["data"]["detail"].clone()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

pub(crate) fn config(data_dir: PathBuf) -> Config {
    let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Config {
        http: vec![free],
        https: vec![free],
        api: free,
        tcp_ip: free.ip(),
        reserved_tcp_ports: None,
        workers: 2,
        data_dir,
        cookie_key: CookieKey::from_base64("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap(),
        proxy_protocol: false,
        default_certificate: None,
        error_page_url: None,
        version: "test".to_owned(),
        limits: Limits::default(),
    }
}

/// A stored route; the number makes its id.
pub(crate) fn stored(number: u32, route: Route) -> Route {
    let id = format!("00000000-0000-4000-8000-{number:012x}").parse().unwrap();
    let now = Utc::now();
    Route { id: Some(id), created_at: now, updated_at: now, ..route }
}

pub(crate) fn http_route(number: u32, domain: &str, service: &str) -> Route {
    stored(number, Route::http(domain, service))
}

pub(crate) fn instance(addr: SocketAddr, job: &str) -> Instance {
    Instance { addr: addr.to_string(), app: "demo".to_owned(), job: job.to_owned() }
}

/// An address nobody listens on: bound, so that nobody else takes it, and not listening.
pub(crate) fn dead_addr() -> (SocketAddr, socket2::Socket) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}
