//! Puts the parts of one server together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kit_clock::{Clock, SystemClock};
use kit_tasks::{Running, Tasks};
use redb::StorageBackend;
use tokio::net::TcpListener;

use crate::config::{Config, join};
use crate::dns;
use crate::http::{Context, Place, router};
use crate::raft::{Dial, Direct, Node, RaftError, Start, Store, StoreError, rebuild};
use crate::state::State;
use crate::{expiry, listener, mending, notify};

/// What a server uses of its surroundings; simulations bring their own.
#[derive(Debug)]
pub struct Deps {
    /// Where leases read the time.
    pub clock: Arc<dyn Clock>,
    /// Where the log is kept.
    pub disk: Disk,
    /// How other servers are reached.
    pub dialer: Arc<dyn Dial>,
}

impl Default for Deps {
    /// The machine's clock, disk and network.
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::start()),
            disk: Disk::Directory,
            dialer: Arc::new(Direct),
        }
    }
}

/// Where the log is kept.
#[derive(Debug)]
pub enum Disk {
    /// In the data directory.
    Directory,
    /// On these storages: one for facts, two for the log.
    Backends(Box<dyn Backends>),
}

/// Three storages as redb uses them. Implemented for all of them.
pub trait Backends: std::fmt::Debug + Send + Sync + 'static {
    /// Opens the store on them.
    #[doc(hidden)]
    fn open(self: Box<Self>) -> Result<StoreHandle, StoreError>;
}

/// An opened store, for [`Backends`] only.
#[derive(Debug)]
pub struct StoreHandle(Store);

impl<B: StorageBackend> Backends for [B; 3] {
    fn open(self: Box<Self>) -> Result<StoreHandle, StoreError> {
        Store::with_backends(*self).map(StoreHandle)
    }
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// There is nowhere to listen.
    #[error("no address to listen on is configured")]
    NoAddress,
    /// The log cannot be started.
    #[error("cannot start the log")]
    Raft(#[from] RaftError),
    /// A client for itself cannot be made.
    #[error("cannot make a client of this server")]
    Client(#[source] discoverd_api::DiscoverdError),
}

/// Starts a server on the machine's clock and disk. The addresses of the answer are those of HTTP in the
/// order of the configuration, then that of DNS where it is configured.
pub async fn start(config: Config, tasks: &Tasks) -> Result<Running, StartError> {
    start_with(config, Deps::default(), tasks).await
}

/// [`start`] with other surroundings.
pub async fn start_with(config: Config, deps: Deps, tasks: &Tasks) -> Result<Running, StartError> {
    let tasks = tasks.child("discoverd");
    let (listeners, mut addrs) = bind(&config.listen).await?;
    let port = addrs.first().ok_or(StartError::NoAddress)?.port();
    let own = join(&config.host, port);
    let peers = config.peers_with_port(port);
    if let Disk::Directory = deps.disk {
        let clock = Arc::clone(&deps.clock);
        rebuild::if_asked(&config.data_dir, &own, clock, config.leases).await?;
    }
    let (store, directory) = match deps.disk {
        Disk::Directory => (Store::open(&config.data_dir), Some(config.data_dir.clone())),
        Disk::Backends(backends) => (backends.open().map(|handle| handle.0), None),
    };
    let store = store.map_err(RaftError::Store)?;
    let state = Arc::new(State::new(Arc::clone(&deps.clock), config.leases));
    let serving = tasks.child("serving");
    let start = Start {
        store,
        state: Arc::clone(&state),
        addr: &own,
        peers: &peers,
        timing: config.raft,
        dialer: deps.dialer,
    };
    let node = Node::start(&serving, start).await?;
    stop_log_last(&tasks, &serving, &node);
    if let Some(directory) = directory.clone() {
        mending::start(&serving, &tasks, node.clone(), directory);
    }
    expiry::start(&serving, &config, Arc::clone(&state), node.clone());
    let place = directory.map(|directory| Place { directory, server: tasks.clone() });
    let context = Arc::new(Context::new(Arc::clone(&state), node.clone(), &serving, place));
    let router = router(Arc::clone(&context));
    for listener in listeners {
        listener::start(&serving, listener, router.clone(), node.clone(), config.first_byte);
    }
    if let Some(dns) = &config.dns {
        let zone =
            dns::Zone::new(Arc::clone(&state), Arc::clone(&deps.clock), config.domain.clone());
        addrs.push(dns::start(&serving, dns, zone).await?);
    }
    let dns_addr = config.dns.is_some().then(|| addrs.last().copied()).flatten();
    notify::start(&serving, &config, &context, addrs[0], dns_addr, deps.clock)?;
    Ok(Running { addrs, tasks })
}

async fn bind(listen: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), StartError> {
    let (mut listeners, mut addrs) = (Vec::new(), Vec::new());
    for addr in listen {
        let failed = |source| StartError::Listen { addr: *addr, source };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        addrs.push(listener.local_addr().map_err(failed)?);
        listeners.push(listener);
    }
    Ok((listeners, addrs))
}

/// How long the other parts have to end before the log is stopped under them.
const DRAIN: Duration = Duration::from_secs(5);

/// The log ends after what uses it: the last deregistration still goes through it.
fn stop_log_last(tasks: &Tasks, serving: &Tasks, node: &Node) {
    let (serving, node) = (serving.clone(), node.clone());
    tasks.spawn("log", async move {
        serving.stopping().await;
        serving.shutdown(DRAIN).await;
        node.stop().await;
    });
}
