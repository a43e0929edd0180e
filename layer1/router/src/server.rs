//! Wiring: sockets, workers, core, API, from settings and sources to a running router.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use ::http::HeaderValue;
use bytes::Bytes;
use discoverd_api::{DiscoverdResolver, Servers};
use kit_clock::{Clock, SystemClock};
use kit_tasks::{Running, Tasks};
use rustls::sign::CertifiedKey;
use tokio::sync::{mpsc, watch};

use crate::api::Api;
use crate::certificates::{certified_key, server_config};
use crate::config::{Config, ConfigError};
use crate::connection::Listener;
use crate::core::{Core, Facts, Members, NEWS, Outputs, follow_routes, save, save_page};
use crate::disk::Disk;
use crate::events::Hub;
use crate::http::Pages;
use crate::listen;
use crate::source::{BackendSource, ControllerRoutes, Discovery, Registration, RouteSource};
use crate::table::Tables;
use crate::tcp::TcpRoutes;
use crate::worker::{self, Shared, Worker};

/// Whom the router listens to.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Routes.
    pub routes: Arc<dyn RouteSource>,
    /// Backends of routed services.
    pub backends: Arc<dyn BackendSource>,
    /// Where the router makes itself known, if anywhere.
    pub registration: Option<Registration>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Deps {
    /// These sources, the machine's clock, no registration.
    pub fn new(routes: Arc<dyn RouteSource>, backends: Arc<dyn BackendSource>) -> Self {
        Self { routes, backends, registration: None, clock: Arc::new(SystemClock::start()) }
    }
}

impl Deps {
    /// The cluster's controller and discoverd, as the environment of the router's job names them:
    /// `DISCOVERD`, `CONTROLLER_KEY` (the first of a comma list counts), `CONTROLLER_URL`
    /// (`http://controller.discoverd`), `EXTERNAL_IP` and the `FLYNN_…` variables to register with.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, FromEnvError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let servers = Servers::parse(&env("DISCOVERD").unwrap_or_default());
        let discoverd = discoverd_api::Client::new(&servers).map_err(FromEnvError::Discoverd)?;
        let keys = env("CONTROLLER_KEY").ok_or(ConfigError::NoControllerKey)?;
        let url = env("CONTROLLER_URL").unwrap_or_else(|| CONTROLLER.to_owned());
        let controller = kit_http::Client::builder(&url)
            .key(keys.split(',').next().unwrap_or_default().trim())
            .resolver(Arc::new(DiscoverdResolver::new(discoverd.clone())))
            .max_body(MAX_ROUTES)
            .build()
            .map_err(FromEnvError::Controller)?;
        let routes = ControllerRoutes::new(controller_api::Client::from_http(controller));
        let backends = Discovery::new(discoverd.clone());
        let registration = match env("EXTERNAL_IP") {
            Some(text) => Some(registration(discoverd, &text, &env)?),
            None => None,
        };
        Ok(Self { registration, ..Self::new(Arc::new(routes), Arc::new(backends)) })
    }
}

/// Where the controller is, as discoverd knows it.
const CONTROLLER: &str = "http://controller.discoverd";

/// Bytes of the whole list of routes, certificates included.
const MAX_ROUTES: usize = 512 << 20;

fn registration(
    client: discoverd_api::Client,
    external_ip: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Registration, ConfigError> {
    let external_ip = external_ip.parse().map_err(|_| ConfigError::Value {
        name: "EXTERNAL_IP".to_owned(),
        value: external_ip.to_owned(),
        wanted: "IP address",
    })?;
    let names = [
        "FLYNN_APP_ID",
        "FLYNN_APP_NAME",
        "FLYNN_RELEASE_ID",
        "FLYNN_PROCESS_TYPE",
        "FLYNN_JOB_ID",
    ];
    let meta = names.into_iter().filter_map(|name| Some((name.to_owned(), env(name)?)));
    Ok(Registration { client, external_ip, meta: meta.collect() })
}

/// An environment that does not name the cluster.
#[derive(Debug, thiserror::Error)]
pub enum FromEnvError {
    /// A variable is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `DISCOVERD` names no servers.
    #[error("DISCOVERD cannot be used")]
    Discoverd(#[source] discoverd_api::DiscoverdError),
    /// `CONTROLLER_URL` is no URL.
    #[error("CONTROLLER_URL cannot be used")]
    Controller(#[source] kit_http::ClientError),
}

/// Why a router cannot start. Sources that are away are no reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port of the configuration cannot be listened on.
    #[error("error binding to port (check if another service is listening on {addr})")]
    Bind {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The cluster's certificate cannot be used.
    #[error("the default certificate (TLSCERT, TLSKEY) is invalid")]
    Certificate(#[source] router_api::CertificateProblem),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The data directory cannot be used.
    #[error("data directory {path} cannot be used")]
    DataDir {
        /// The directory.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A thread or listener could not be made.
    #[error("the system gave no thread or socket")]
    System(#[from] std::io::Error),
}

impl From<listen::BindError> for StartError {
    fn from(error: listen::BindError) -> Self {
        Self::Bind { addr: error.addr, source: error.source }
    }
}

/// Starts a router. It serves what its disk holds from the first moment. The addresses of the result
/// are those of HTTP, then HTTPS, then the API.
pub async fn start(config: Config, deps: Deps, tasks: &Tasks) -> Result<Running, StartError> {
    let node = tasks.child("router");
    let disk = open(&config)?;
    let mut saved = disk.load();
    let shared = shared(&config, &deps, saved.page.take());
    let sockets = Sockets::bind(&config, &shared)?;
    let api_socket = listen::listener(config.api)?;
    let (hub, facts) = (Arc::new(Hub::new()), Arc::new(Mutex::new(Facts::default())));
    let tcp = TcpRoutes::new(config.tcp_ip, config.reserved_tcp_ports.clone(), &shared, &node);
    let (saved_routes, routes_state) = watch::channel(Arc::default());
    let (saved_backends, backends_state) = watch::channel(Arc::default());
    let (news_sender, news) = mpsc::channel(NEWS);
    let members = members(&config, &deps, news_sender.clone(), &node);
    let outputs = Outputs {
        shared: shared.clone(),
        hub: hub.clone(),
        tcp: tcp.clone(),
        facts: facts.clone(),
        saved_routes,
        saved_backends,
    };
    let core = Core::new(outputs, members, saved);
    let (mut addrs, http_addr) = (sockets.addrs.clone(), sockets.plain);
    let workers = sockets.spawn_workers(&shared, config.workers, &node)?;
    node.spawn("core", core.run(news, node.clone()));
    node.spawn_until_stop("routes", follow_routes(deps.routes.clone(), news_sender));
    let saver = save(disk.clone(), "routes", routes_state, |d, r| d.save_routes(r), node.clone());
    node.spawn("save-routes", saver);
    let saver =
        save(disk.clone(), "backends", backends_state, |d, b| d.save_backends(b), node.clone());
    node.spawn("save-backends", saver);
    if let Some(url) = config.error_page_url.clone() {
        node.spawn_until_stop("error-page", save_page(url, disk, shared));
    }
    let api = Api { hub, facts, tcp, workers }.router(&config.version);
    let api = kit_http::serve(&node, tokio::net::TcpListener::from_std(api_socket)?, api)?;
    addrs.push(api.addr());
    if let Some(registration) = &deps.registration {
        registration.announce(&node, api.addr(), http_addr);
    }
    tracing::info!(?addrs, "router started");
    Ok(Running { addrs, tasks: node })
}

fn open(config: &Config) -> Result<Disk, StartError> {
    Disk::open(&config.data_dir).map_err(|source| StartError::DataDir {
        path: config.data_dir.display().to_string(),
        source,
    })
}

fn shared(config: &Config, deps: &Deps, page: Option<Vec<u8>>) -> Arc<Shared> {
    let pages = Pages::default();
    // A page that is not configured any more is not shown any more.
    if let Some(page) = page.filter(|_| config.error_page_url.is_some()) {
        pages.set_unavailable(Bytes::from(page));
    }
    Arc::new(Shared {
        tables: Arc::new(Tables::new(config.workers)),
        pages,
        limits: config.limits,
        proxy_protocol: config.proxy_protocol,
        clock: deps.clock.clone(),
        started: deps.clock.mono(),
    })
}

fn members(
    config: &Config,
    deps: &Deps,
    news: mpsc::Sender<crate::core::News>,
    tasks: &Tasks,
) -> Members {
    Members {
        source: deps.backends.clone(),
        news,
        tasks: tasks.clone(),
        cookie_key: config.cookie_key.clone(),
        workers: config.workers,
        limits: config.limits,
    }
}

/// The data plane's sockets, bound and not yet served.
struct Sockets {
    addrs: Vec<SocketAddr>,
    /// The first plain HTTP address.
    plain: Option<SocketAddr>,
    /// For each worker its listeners.
    per_worker: Vec<Vec<(Arc<Listener>, TcpListener)>>,
}

impl Sockets {
    fn bind(config: &Config, shared: &Arc<Shared>) -> Result<Self, StartError> {
        let default = match &config.default_certificate {
            Some(pair) => Some(
                certified_key(&pair.cert, pair.key.expose()).map_err(StartError::Certificate)?,
            ),
            None => None,
        };
        let workers = config.workers.max(1);
        let mut sockets = Self {
            addrs: Vec::new(),
            plain: None,
            per_worker: (0..workers).map(|_| Vec::new()).collect(),
        };
        for (index, addr) in config.http.iter().enumerate() {
            let bound = sockets.add(*addr, index == 0, None)?;
            sockets.plain.get_or_insert(bound);
        }
        for (index, addr) in config.https.iter().enumerate() {
            sockets.add(*addr, index == 0, Some((&shared.tables, default.clone())))?;
        }
        Ok(sockets)
    }

    fn add(
        &mut self,
        addr: SocketAddr,
        is_default: bool,
        tls: Option<(&Arc<Tables>, Option<Arc<CertifiedKey>>)>,
    ) -> Result<SocketAddr, StartError> {
        let listeners = listen::listeners(addr, self.per_worker.len())?;
        let addr = listeners.first().map_or(Ok(addr), TcpListener::local_addr)?;
        let match_port = if is_default { routes::DEFAULT_PORT } else { addr.port() };
        let proto = if tls.is_some() { "https" } else { "http" };
        let tls = match tls {
            Some((tables, default)) => {
                Some(server_config(tables, match_port, default).map_err(StartError::Tls)?)
            }
            None => None,
        };
        let listener = Arc::new(Listener {
            port: addr.port(),
            port_text: HeaderValue::from(addr.port()),
            proto: HeaderValue::from_static(proto),
            is_default,
            tls,
        });
        for (worker, socket) in self.per_worker.iter_mut().zip(listeners) {
            worker.push((listener.clone(), socket));
        }
        self.addrs.push(addr);
        Ok(addr)
    }

    /// Starts the threads, each owned by a task that ends it when the router stops.
    fn spawn_workers(
        self,
        shared: &Arc<Shared>,
        count: usize,
        tasks: &Tasks,
    ) -> Result<Vec<Arc<Worker>>, StartError> {
        let mut workers = Vec::with_capacity(count);
        for (index, listeners) in self.per_worker.into_iter().enumerate() {
            let worker = Worker::new(index, shared, rand::random());
            let handle = worker::spawn(worker.clone(), listeners)?;
            let node = tasks.clone();
            tasks.spawn(&format!("worker-{index}"), async move {
                node.stopping().await;
                handle.stop.cancel();
                // Either the work has ended, or this task is ended and with it the thread.
                drop(handle.ended.await);
                drop(handle.abort);
            });
            workers.push(worker);
        }
        Ok(workers)
    }
}
