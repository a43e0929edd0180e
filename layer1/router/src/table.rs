//! The table requests are matched against, as it is published: one slot per worker, so that a request
//! touches no cache line of another worker, and a change replaces all slots.

use std::sync::{Arc, PoisonError, RwLock};

use routes::Table;
use rustls::sign::CertifiedKey;

use crate::service::Service;

/// Everything a request needs to know of its route.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) service: Arc<Service>,
    /// Only the service's leader is a backend.
    pub(crate) leader: bool,
    pub(crate) sticky: bool,
    /// A backend connection serves one request only.
    pub(crate) disable_keep_alives: bool,
    /// The route's own key pair, if it has one that can be used.
    pub(crate) certificate: Option<Arc<CertifiedKey>>,
}

/// The published table.
#[derive(Debug)]
pub(crate) struct Tables {
    slots: Box<[RwLock<Arc<Routed>>]>,
}

/// The routes of one moment.
pub(crate) type Routed = Table<Arc<Target>>;

impl Tables {
    /// Empty tables for this many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self { slots: (0..workers.max(1)).map(|_| RwLock::default()).collect() }
    }

    /// Replaces the table for all workers.
    pub(crate) fn publish(&self, table: &Arc<Routed>) {
        for slot in &self.slots {
            *slot.write().unwrap_or_else(PoisonError::into_inner) = table.clone();
        }
    }

    /// The route of a request.
    pub(crate) fn find(
        &self,
        worker: usize,
        port: u16,
        host: &str,
        path: &str,
    ) -> Option<Arc<Target>> {
        self.read(worker, |table| table.find(port, host, path).cloned())
    }

    /// The target of a TCP port.
    pub(crate) fn find_tcp(&self, port: u16) -> Option<Arc<Target>> {
        self.read(0, |table| table.find_tcp(port).cloned())
    }

    /// The key pair for a server name: None when no route has the name, `Some(None)` when its route
    /// has no pair of its own.
    pub(crate) fn certificate(&self, port: u16, name: &str) -> Option<Option<Arc<CertifiedKey>>> {
        self.read(0, |table| table.find_domain(port, name).map(|found| found.certificate.clone()))
    }

    fn read<T>(&self, worker: usize, look: impl FnOnce(&Routed) -> T) -> T {
        let slot = &self.slots[worker % self.slots.len()];
        look(&slot.read().unwrap_or_else(PoisonError::into_inner))
    }
}
