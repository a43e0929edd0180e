//! TCP routes: a listener per routed port, a backend per connection, raw bytes. Ports of the range are
//! kept from other programs while no route uses them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kit_backoff::Backoff;
use kit_tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listen::{self, tune};
use crate::pool::dial;
use crate::service::Lease;
use crate::table::Target;
use crate::tunnel::tunnel;
use crate::worker::Shared;

/// All TCP listeners. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct TcpRoutes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ip: IpAddr,
    shared: Arc<Shared>,
    tasks: Tasks,
    /// Connections of all ports; they outlive their route, not the router.
    connections: TaskTracker,
    /// Ends what is left when the router's grace time is over.
    over: CancellationToken,
    /// Kept ports; they stay bound beside the listener that uses them.
    _reserved: Vec<socket2::Socket>,
    listening: Mutex<BTreeMap<u16, CancellationToken>>,
    /// Ports of routes that cannot be listened on now, with the reason.
    blocked: Mutex<BTreeMap<u16, String>>,
}

impl TcpRoutes {
    /// No listener yet; the range's ports are taken, as far as they are free.
    pub(crate) fn new(
        ip: IpAddr,
        range: Option<RangeInclusive<u16>>,
        shared: &Arc<Shared>,
        tasks: &Tasks,
    ) -> Self {
        let ports = range.into_iter().flatten();
        let reserve = |port| match listen::reserve(SocketAddr::new(ip, port)) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(port, error = %error.source, "port of the TCP range is taken");
                None
            }
        };
        let inner = Inner {
            ip,
            shared: shared.clone(),
            tasks: tasks.clone(),
            connections: TaskTracker::new(),
            over: CancellationToken::new(),
            _reserved: ports.filter_map(reserve).collect(),
            listening: Mutex::default(),
            blocked: Mutex::default(),
        };
        let routes = Self { inner: Arc::new(inner) };
        routes.end_with_the_router();
        routes
    }

    /// Listens on exactly these ports.
    pub(crate) fn listen_on(&self, ports: &BTreeSet<u16>) {
        let mut listening = self.inner.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.retain(|port, stop| {
            let kept = ports.contains(port);
            if !kept {
                stop.cancel();
            }
            kept
        });
        for port in ports {
            listening.entry(*port).or_insert_with(|| self.open(*port));
        }
    }

    /// Why ports of routes are not listened on.
    pub(crate) fn blocked(&self) -> BTreeMap<u16, String> {
        self.inner.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn open(&self, port: u16) -> CancellationToken {
        let stop = self.inner.tasks.stop_token().child_token();
        let (routes, ended) = (self.clone(), stop.clone());
        self.inner.tasks.spawn(&format!("tcp-{port}"), async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = routes.serve(port) => {}
            }
            routes.set_blocked(port, None);
        });
        stop
    }

    async fn serve(&self, port: u16) {
        let socket = self.bind(port).await;
        let slots = Arc::new(Semaphore::new(self.inner.shared.limits.connections_per_tcp_route));
        let mut pause = backoff();
        while let Ok(permit) = slots.clone().acquire_owned().await {
            match socket.accept().await {
                Ok((stream, peer)) => {
                    pause.reset();
                    tune(&stream);
                    let routes = self.clone();
                    self.inner.connections.spawn(async move {
                        tokio::select! {
                            () = routes.inner.over.cancelled() => {}
                            () = routes.connect(port, stream, peer) => {}
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(port, %error, "connection could not be accepted");
                    tokio::time::sleep(pause.next_delay()).await;
                }
            }
        }
    }

    /// Tries until the port is free: another program's port is no reason to give up the route.
    async fn bind(&self, port: u16) -> TcpListener {
        let mut pause = backoff();
        loop {
            let bound = listen::listener(SocketAddr::new(self.inner.ip, port));
            let error = match bound.map(TcpListener::from_std) {
                Ok(Ok(socket)) => {
                    self.set_blocked(port, None);
                    return socket;
                }
                Ok(Err(error)) => error,
                Err(error) => error.source,
            };
            tracing::warn!(port, %error, "TCP route cannot be listened on");
            self.set_blocked(port, Some(error.to_string()));
            tokio::time::sleep(pause.next_delay()).await;
        }
    }

    fn set_blocked(&self, port: u16, reason: Option<String>) {
        let mut blocked = self.inner.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => drop(blocked.insert(port, reason)),
            None => drop(blocked.remove(&port)),
        }
    }

    async fn connect(&self, port: u16, client: TcpStream, peer: SocketAddr) {
        let Some(target) = self.inner.shared.tables.find_tcp(port) else { return };
        let dialled = tokio::select! {
            dialled = self.dial_any(&target) => dialled,
            () = closed(&client) => return,
        };
        let Some((lease, backend)) = dialled else {
            tracing::debug!(port, %peer, service = %target.service.name, "no backend was reached");
            return;
        };
        let lease = lease.into_tunnel();
        tunnel(client, backend).await;
        drop(lease);
    }

    /// The first backend, in random order, that accepts.
    async fn dial_any(&self, target: &Target) -> Option<(Lease, TcpStream)> {
        let (backends, shared) = (target.service.backends(), &self.inner.shared);
        for backend in backends.in_turn(target.leader, None, rand::random(), shared.tick()) {
            let Some(lease) = Lease::take(&backend) else { continue };
            match dial(shared, &lease.backend).await {
                Ok(stream) => return Some((lease, stream)),
                Err(error) => tracing::debug!(service = %target.service.name,
                    backend = %lease.backend.identity.addr, %error, "backend could not be dialled"),
            }
        }
        None
    }

    /// A task that lives as long as the connections: a stop waits for them, and its end ends them.
    fn end_with_the_router(&self) {
        let (tasks, connections) = (self.inner.tasks.clone(), self.inner.connections.clone());
        let over = self.inner.over.clone().drop_guard();
        let node = tasks.clone();
        tasks.spawn("tcp-connections", async move {
            let _over = over;
            node.stopping().await;
            connections.close();
            connections.wait().await;
        });
    }
}

/// Resolves when the client has closed without sending anything.
async fn closed(client: &TcpStream) {
    let mut byte = [0];
    match client.peek(&mut byte).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5), rand::random())
}
