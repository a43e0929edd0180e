//! Starting one host: state, listeners, jobs of an earlier daemon, background work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use host_image::{Fetcher, Form, Images, LayerMounts, LayerStore, Watermark};
use host_network::Network;
use kit_clock::Clock;
use kit_tasks::{Running, Tasks};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::config::Config;
use crate::gates::Gates;
use crate::host::Host;
use crate::logs::Logs;
use crate::names::Names;
use crate::nets::Nets;
use crate::ranges::Ranges;
use crate::registry::Registry;
use crate::runner;
use crate::scratch::Scratch;
use crate::settings::Settings;
use crate::sinks::Sinks;
use crate::store::{Store, StoreError};
use crate::supervisor::Launcher;
use crate::volumes::{VolumeError, Volumes};

/// How often the disk is looked at for layers to forget.
const COLLECT_EVERY: Duration = Duration::from_secs(60);
/// How long packets to other hosts may go the long way after their tunnel was made.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);
/// How long a start waits to write the bridge that it had.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// What a daemon needs from outside.
#[derive(Debug)]
pub struct Deps {
    /// The network of jobs.
    pub nets: Arc<dyn Nets>,
    /// Starts supervisors.
    pub launcher: Arc<dyn Launcher>,
    /// The machine's clocks.
    pub clock: Arc<dyn Clock>,
    /// The task tree to grow in.
    pub tasks: Tasks,
    /// How layers are kept.
    pub form: Form,
}

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layers.
    #[error(transparent)]
    Layers(#[from] host_image::StoreError),
    /// The volumes.
    #[error("cannot read the volumes")]
    Volumes(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A folder.
    #[error("cannot make the folder for {what}")]
    Folder {
        /// Of what.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    running: Running,
    host: Arc<Host>,
}

impl Daemon {
    /// Where it listens.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Ends every job for good, as if each had been asked to stop.
    pub async fn stop_jobs(&self) {
        runner::stop_all(&self.host).await;
    }

    /// Ends every job because the host goes down. Jobs that belong to the host are started again by the
    /// next daemon.
    pub async fn go_down(&self) {
        runner::go_down(&self.host).await;
    }

    /// Ends the daemon; its jobs go on, and the next daemon takes them up.
    pub async fn stop(self) {
        self.running.tasks.shutdown(STOP_GRACE).await;
    }
}

/// Opens the network of a host.
pub async fn open_network(
    config: host_network::Config,
) -> Result<Arc<dyn Nets>, host_network::NetworkError> {
    Ok(Arc::new(Network::open(config).await?))
}

/// Starts the daemon of a host.
pub async fn start(config: Config, deps: Deps) -> Result<Daemon, StartError> {
    let tasks = deps.tasks.child("host");
    let listeners = listen(&config.listen).await?;
    let addrs: Vec<SocketAddr> =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let port = addrs.first().map_or(host_api::PORT, SocketAddr::port);
    let url = format!("http://{}:{port}", config.external_ip);
    let host = Arc::new(open(config, deps, tasks.clone(), url)?);
    crate::members::apply(&host).await;
    restore_network(&host).await;
    runner::adopt_all(&host).await?;
    let router = crate::http::router(host.clone());
    for listener in listeners {
        let served = kit_http::serve(&tasks, listener, router.clone());
        served.map_err(|source| StartError::Folder { what: "the listener", source })?;
    }
    tasks.spawn_until_stop("publish", crate::publish::publish(host.clone()));
    tasks.spawn_until_stop("registration", crate::registration::serve(host.clone()));
    tasks.spawn_until_stop("collect layers", collect(host.clone()));
    tasks.spawn_until_stop("prepare for jobs", keep_ready(host.clone()));
    tasks.spawn_until_stop("follow the tunnel", follow_tunnel(host.clone()));
    tracing::info!(url = %host.url, id = %host.config.id, "host is up");
    Ok(Daemon { running: Running { addrs, tasks }, host })
}

fn open(config: Config, deps: Deps, tasks: Tasks, url: String) -> Result<Host, StartError> {
    let folder = |what| move |source| StartError::Folder { what, source };
    let data = config.data_dir.clone();
    let store = Store::open(&data)?;
    let layers = LayerStore::open(data.join("layers"), deps.form)?;
    let volumes = Volumes::open(data.join("volumes"), store.clone());
    let volumes = volumes.map_err(|error: VolumeError| StartError::Volumes(Box::new(error)))?;
    let logs = Logs::open(config.log_dir.clone(), config.log_file_bytes, config.log_total_bytes);
    let logs = Arc::new(logs.map_err(folder("logs"))?);
    let sinks = Sinks::open(config.id.clone(), store.clone(), logs.clone(), &tasks)?;
    let registry =
        Registry::open(store.clone(), config.id.clone(), config.capacity(), deps.clock.clone())?;
    let settings = Settings::open(store.clone())?;
    let names = Arc::new(Names::new(settings.watch()));
    Ok(Host {
        settings,
        ranges: Ranges::open(store)?,
        scratch: Scratch::open(data.join("scratch"), config.defaults.scratch)
            .map_err(folder("scratch disks"))?,
        logs,
        sinks,
        mounts: LayerMounts::new(layers.clone()),
        fetcher: Fetcher::new(layers.clone(), Some(names)),
        images: Images::open(data.join("images.json")),
        nets: deps.nets,
        launcher: deps.launcher,
        gates: Gates::default(),
        peers: watch::Sender::new(Vec::new()),
        making: Arc::new(Semaphore::new(config.max_job_concurrency.max(1))),
        held: std::sync::Mutex::default(),
        going_down: std::sync::atomic::AtomicBool::new(false),
        clock: deps.clock,
        registry,
        volumes,
        layers,
        tasks,
        url,
        config,
    })
}

async fn listen(addrs: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::new();
    for addr in addrs {
        let listener = TcpListener::bind(addr).await;
        listeners.push(listener.map_err(|source| StartError::Listen { addr: *addr, source })?);
    }
    Ok(listeners)
}

/// The bridge of before, so that jobs need not wait for the overlay after a restart.
async fn restore_network(host: &Host) {
    let Some(network) = host.settings.now().network else { return };
    let Ok(subnet) = network.subnet.parse() else { return };
    if let Some(Ok(overlay)) = network.overlay.as_ref().map(crate::http::overlay)
        && let Err(error) = host.nets.set_overlay(overlay).await
    {
        tracing::error!(%error, "rules about other hosts not restored");
    }
    if let Err(error) = host.nets.configure(subnet, network.mtu.max(1280)).await {
        tracing::error!(%error, "network of the host not restored");
    }
}

/// After every start, and beside none: what the next one needs and no job has.
async fn keep_ready(host: Arc<Host>) {
    loop {
        host.scratch.used().await;
        if let Err(error) = host.scratch.make_ready().await {
            tracing::warn!(%error, "no spare scratch disk made");
        }
        if let Err(error) = host.nets.make_ready().await {
            tracing::warn!(%error, "firewall program not started ahead");
        }
    }
}

/// The overlay makes the tunnel's device after it has told the daemon of it, and anew when it must.
async fn follow_tunnel(host: Arc<Host>) {
    loop {
        host.nets.follow_tunnel().await;
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// Forgets unused layers when the disk fills up.
async fn collect(host: Arc<Host>) {
    loop {
        tokio::time::sleep(COLLECT_EVERY).await;
        let of_task = host.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || collect_once(&of_task)).await {
            tracing::warn!(%error, "layers not collected");
        }
    }
}

fn collect_once(host: &Host) {
    let disk = rustix::fs::statvfs(host.layers.dir());
    let (Ok(disk), Ok(layers)) = (disk, host.layers.list()) else { return };
    let free_total = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    let named = host.images.all().unwrap_or_default();
    let named = named.iter().filter_map(|image| image.layers().ok()).flatten();
    let mut in_use: Vec<_> = named.filter_map(|layer| layer.key().ok()).collect();
    in_use.extend(host.mounts.in_use());
    for key in host_image::choose(layers, &in_use, free_total, Watermark::default()) {
        host.mounts.let_go(&key);
        match host.layers.remove(&key) {
            Ok(()) => tracing::info!(layer = %key, "unused layer forgotten: the disk fills up"),
            Err(error) => tracing::warn!(layer = %key, %error, "unused layer stays"),
        }
    }
}
