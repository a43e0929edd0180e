//! One thread of the data plane: a single-threaded runtime with listeners of its own, the connections
//! it accepted, and the sweep that closes slow and idle ones. Workers share the published table and
//! the backends' counters, nothing else.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kit_backoff::Backoff;
use kit_clock::{Clock, Mono};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Limits;
use crate::connection::{self, Listener, State};
use crate::http::Pages;
use crate::listen::tune;
use crate::pool::Tick;
use crate::table::Tables;

/// What all workers, and nobody else's requests, read.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) tables: Arc<Tables>,
    pub(crate) pages: Pages,
    pub(crate) limits: Limits,
    pub(crate) proxy_protocol: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started: Mono,
}

impl Shared {
    /// Seconds since the start.
    pub(crate) fn tick(&self) -> Tick {
        self.clock.mono().since(self.started).as_secs()
    }
}

/// A worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    /// What a stop waits for: client connections and tunnels.
    pub(crate) tracker: TaskTracker,
    /// Connections to backends; the idle ones among them end with the worker.
    pub(crate) backends: TaskTracker,
    pub(crate) idle_backend_ticks: u64,
    now: AtomicU64,
    seeds: AtomicU64,
    connections: Mutex<BTreeMap<u64, Arc<State>>>,
    next_connection: AtomicU64,
    slots: Arc<Semaphore>,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: &Arc<Shared>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            index,
            shared: shared.clone(),
            tracker: TaskTracker::new(),
            backends: TaskTracker::new(),
            idle_backend_ticks: ticks(shared.limits.idle_backend),
            now: AtomicU64::new(shared.tick()),
            seeds: AtomicU64::new(seed),
            connections: Mutex::default(),
            next_connection: AtomicU64::new(0),
            slots: Arc::new(Semaphore::new(shared.limits.connections_per_worker)),
        })
    }

    /// The time, at most a second old.
    pub(crate) fn now(&self) -> Tick {
        self.now.load(Ordering::Relaxed)
    }

    /// A seed for one request's choices.
    pub(crate) fn seed(&self) -> u64 {
        self.seeds.fetch_add(0xa076_1d64_78bd_642f, Ordering::Relaxed)
    }

    /// How many client connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.registry().len()
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<State>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A span in whole ticks, at least one.
pub(crate) fn ticks(span: Duration) -> u64 {
    span.as_secs().max(1)
}

/// How a worker's thread is told to end, and tells that it has.
pub(crate) struct Handle {
    /// Stop accepting, finish what is in flight.
    pub(crate) stop: CancellationToken,
    /// Dropped: end at once.
    pub(crate) abort: oneshot::Sender<()>,
    /// Resolves when the thread's work has ended.
    pub(crate) ended: oneshot::Receiver<()>,
}

/// Starts a worker's thread.
pub(crate) fn spawn(
    worker: Arc<Worker>,
    listeners: Vec<(Arc<Listener>, TcpListener)>,
) -> std::io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    let (abort, aborted) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel();
    let stopping = stop.clone();
    std::thread::Builder::new().name(format!("router-{}", worker.index)).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = run(&worker, listeners, &stopping) => {}
                _ = aborted => {}
            }
        });
        drop(runtime);
        // Nobody waits any more if the owner was ended first.
        let _ = end.send(());
    })?;
    Ok(Handle { stop, abort, ended })
}

/// Accepts until asked to stop, then waits for everything that is under way.
async fn run(
    worker: &Arc<Worker>,
    listeners: Vec<(Arc<Listener>, TcpListener)>,
    stop: &CancellationToken,
) {
    for (listener, socket) in listeners {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => {
                let (worker, stop) = (worker.clone(), stop.clone());
                let tracker = worker.tracker.clone();
                tracker.spawn(accept(worker, listener, socket, stop));
            }
            Err(error) => tracing::error!(port = listener.port, %error, "cannot listen"),
        }
    }
    tokio::select! {
        () = sweep(worker) => {}
        () = stop.cancelled() => {}
    }
    worker.tracker.close();
    tokio::select! {
        () = drain(worker) => {}
        () = worker.tracker.wait() => {}
    }
}

/// Each second: the time, and the connections that have had theirs.
async fn sweep(worker: &Worker) {
    let limits = &worker.shared.limits;
    let (head, idle) = (ticks(limits.request_head), ticks(limits.idle_client));
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let now = worker.shared.tick();
        worker.now.store(now, Ordering::Relaxed);
        for state in worker.registry().values() {
            state.enforce(now, head, idle);
        }
    }
}

/// Tells all connections to finish, again and again: one may have been accepted meanwhile. Those that
/// have begun no request after a while will not be missed.
async fn drain(worker: &Worker) {
    let begun = tokio::time::Instant::now();
    loop {
        for state in worker.registry().values() {
            state.drain();
            if begun.elapsed() > UNUSED {
                state.close_unless_busy();
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How long a drain waits for the request of a connection that has none.
const UNUSED: Duration = Duration::from_secs(2);

async fn accept(
    worker: Arc<Worker>,
    listener: Arc<Listener>,
    socket: tokio::net::TcpListener,
    stop: CancellationToken,
) {
    let mut pause = Backoff::new(Duration::from_millis(5), Duration::from_secs(1), worker.seed());
    loop {
        let next = async {
            let permit = worker.slots.clone().acquire_owned().await.ok()?;
            Some((permit, socket.accept().await))
        };
        let accepted = tokio::select! {
            biased;
            accepted = next => accepted,
            () = stop.cancelled() => None,
        };
        match accepted {
            None => return,
            Some((permit, Ok((stream, addr)))) => {
                pause.reset();
                tune(&stream);
                admit(&worker, &listener, permit, stream, addr);
            }
            Some((_, Err(error))) => {
                tracing::warn!(%error, port = listener.port, "connection could not be accepted");
                tokio::time::sleep(pause.next_delay()).await;
            }
        }
    }
}

fn admit(
    worker: &Arc<Worker>,
    listener: &Arc<Listener>,
    permit: OwnedSemaphorePermit,
    stream: tokio::net::TcpStream,
    addr: std::net::SocketAddr,
) {
    let state = Arc::new(State::new(worker.now()));
    let id = worker.next_connection.fetch_add(1, Ordering::Relaxed);
    worker.registry().insert(id, state.clone());
    let admitted = Admitted { worker: worker.clone(), id, _permit: permit };
    let (worker, listener) = (worker.clone(), listener.clone());
    let tracker = worker.tracker.clone();
    tracker.spawn(async move {
        let _admitted = admitted;
        connection::serve(worker, listener, state, stream, addr).await;
    });
}

/// A connection's entry; gone with the connection, however that ends.
struct Admitted {
    worker: Arc<Worker>,
    id: u64,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.worker.registry().remove(&self.id);
    }
}
