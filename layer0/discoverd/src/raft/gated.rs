//! A store in memory whose disk can be held up, and entries for it. For tests.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use openraft::{CommittedLeaderId, EntryPayload};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::store::Store;
use super::types::{Entry, LogId, NodeId};

type Open = Arc<(Mutex<bool>, Condvar)>;

/// Holds up a disk's syncs while it is closed; open in the end, so that a test that fails ends too.
#[derive(Debug)]
pub(super) struct Gate(Open);

#[derive(Debug)]
struct Gated(InMemoryBackend, Open);

impl Drop for Gate {
    fn drop(&mut self) {
        self.set(true);
    }
}

impl Gate {
    pub(super) fn set(&self, open: bool) {
        *self.0.0.lock().unwrap() = open;
        self.0.1.notify_all();
    }
}

impl StorageBackend for Gated {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (open, changed) = &*self.1;
        drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// A store whose disk works until the gate is closed.
pub(super) fn gated_store() -> (Store, Gate) {
    let gate = Gate(Arc::default());
    gate.set(true);
    let files =
        std::array::from_fn::<_, 3, _>(|_| Gated(InMemoryBackend::new(), Arc::clone(&gate.0)));
    (Store::with_backends(files).unwrap(), gate)
}

/// An entry that changes nothing.
pub(super) fn entry(term: u64, leader: NodeId, index: u64) -> Entry {
    let log_id = LogId::new(CommittedLeaderId::new(term, leader), index);
    Entry { log_id, payload: EntryPayload::Blank }
}
