//! Connections to one backend: dialling, and those that wait for their next request. Each worker has
//! a shelf of its own, so connections never change threads and the lock is never contended.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::http::RequestBody;
use crate::listen::{give_up_after, tune};
use crate::service::Backend;
use crate::worker::{Shared, Worker};

/// Seconds since the router's start; coarse, but costs nothing to read.
pub(crate) type Tick = u64;

/// Sends requests on one connection, one after the other.
pub(crate) type Sender = SendRequest<RequestBody>;

/// The idle connections of one backend.
pub(crate) struct Pool {
    shelves: Box<[Mutex<Vec<Idle>>]>,
    max_idle: usize,
}

struct Idle {
    sender: Sender,
    since: Tick,
}

impl Pool {
    pub(crate) fn new(workers: usize, max_idle: usize) -> Self {
        Self { shelves: (0..workers).map(|_| Mutex::default()).collect(), max_idle }
    }

    /// The connection used last, if it still works and was idle for at most `max_age` ticks.
    pub(crate) fn take(&self, worker: usize, now: Tick, max_age: u64) -> Option<Sender> {
        let mut shelf = self.shelf(worker)?;
        loop {
            let idle = shelf.last()?;
            if now.saturating_sub(idle.since) > max_age {
                return None;
            }
            let sender = shelf.pop()?.sender;
            if sender.is_ready() {
                return Some(sender);
            }
        }
    }

    /// Puts a connection back after its response was read to the end. One that is not ready yet, or
    /// one too many, is closed.
    pub(crate) fn put(&self, worker: usize, sender: Sender, now: Tick) {
        if !sender.is_ready() {
            return;
        }
        if let Some(mut shelf) = self.shelf(worker)
            && shelf.len() < self.max_idle
        {
            shelf.push(Idle { sender, since: now });
        }
    }

    /// Closes what was idle for longer than `max_age` ticks, or was closed by the backend.
    pub(crate) fn trim(&self, now: Tick, max_age: u64) {
        for worker in 0..self.shelves.len() {
            if let Some(mut shelf) = self.shelf(worker) {
                shelf.retain(|idle| {
                    !idle.sender.is_closed() && now.saturating_sub(idle.since) <= max_age
                });
            }
        }
    }

    fn shelf(&self, worker: usize) -> Option<std::sync::MutexGuard<'_, Vec<Idle>>> {
        Some(self.shelves.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("workers", &self.shelves.len()).finish_non_exhaustive()
    }
}

/// A fresh connection for requests, driven by the worker; one that is upgraded can be taken over.
pub(crate) async fn connect(worker: &Arc<Worker>, backend: &Backend) -> io::Result<Sender> {
    let stream = dial(&worker.shared, backend).await?;
    give_up_after(worker.shared.limits.backend_silence, &stream);
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .max_header_size(worker.shared.limits.head_bytes)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    worker.backends.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::trace!(%error, "backend connection ended");
        }
    });
    Ok(sender)
}

/// Connects to a backend, which is avoided for a while when that fails.
pub(crate) async fn dial(shared: &Shared, backend: &Backend) -> io::Result<TcpStream> {
    let dialled = connect_in(shared.limits.dial, backend).await;
    match &dialled {
        Ok(stream) => tune(stream),
        Err(_) => backend.avoid(shared.tick()),
    }
    dialled
}

async fn connect_in(limit: Duration, backend: &Backend) -> io::Result<TcpStream> {
    let connect = async {
        match backend.socket {
            Some(socket) => TcpStream::connect(socket).await,
            None => TcpStream::connect(&backend.identity.addr).await,
        }
    };
    tokio::time::timeout(limit, connect)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
