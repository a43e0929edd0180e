//! When the library is told that entries are stored, and what waits for the disk instead.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use openraft::network::RaftNetworkFactory as _;
use openraft::storage::RaftLogStorageExt as _;
use openraft::{BasicNode, CommittedLeaderId, EntryPayload};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::super::dial::Direct;
use super::super::network::Network;
use super::*;

type Open = Arc<(Mutex<bool>, Condvar)>;

/// Holds up a disk's syncs while it is closed; open in the end, so that a test that fails ends too.
#[derive(Debug)]
struct Gate(Open);

#[derive(Debug)]
struct Gated(InMemoryBackend, Open);

impl Drop for Gate {
    fn drop(&mut self) {
        self.set(true);
    }
}

impl Gate {
    fn set(&self, open: bool) {
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

const ME: NodeId = 1;

fn log() -> (Log, Gate) {
    let gate = Gate(Arc::default());
    gate.set(true);
    let files =
        std::array::from_fn::<_, 3, _>(|_| Gated(InMemoryBackend::new(), Arc::clone(&gate.0)));
    (Log::new(Store::with_backends(files).unwrap(), ME), gate)
}

fn entry(term: u64, leader: NodeId, index: u64) -> Entry {
    let log_id = LogId::new(CommittedLeaderId::new(term, leader), index);
    Entry { log_id, payload: EntryPayload::Blank }
}

#[tokio::test]
async fn a_leaders_disk_is_waited_for_by_what_is_applied() {
    let (mut log, gate) = log();
    log.save_vote(&Vote::new_committed(1, ME)).await.unwrap();
    gate.set(false);
    let own = entry(1, ME, 0);
    log.blocking_append([own.clone()]).await.unwrap();
    assert_eq!(log.store.journal().on_disk_upto(Some(own.log_id)), None);
    let mut waiting = Box::pin(log.save_committed(Some(own.log_id)));
    assert!(waiting.as_mut().now_or_never().is_none(), "its disk does not have it");
    gate.set(true);
    waiting.await.unwrap();
    assert_eq!(log.store.journal().on_disk_upto(Some(own.log_id)), Some(own.log_id));
}

#[tokio::test]
async fn other_members_hear_of_a_commit_when_the_leaders_disk_has_it() {
    let (mut log, gate) = log();
    log.save_vote(&Vote::new_committed(1, ME)).await.unwrap();
    let (before, now) = (entry(1, ME, 0), entry(1, ME, 1));
    let ids = (before.log_id, now.log_id);
    log.blocking_append([before]).await.unwrap();
    log.store.on_disk(Some(ids.0)).await.unwrap();
    let mut network = Network { dialer: Arc::new(Direct), store: log.store.clone() };
    let peer = network.new_client(2, &BasicNode::new("nowhere")).await;
    gate.set(false);
    log.blocking_append([now]).await.unwrap();
    let told = peer.settled(Some(ids.1), Duration::from_millis(1)).await;
    assert_eq!(told, Some(ids.0), "the older one is committed all the same");
    gate.set(true);
    assert_eq!(peer.settled(Some(ids.1), Duration::MAX).await, Some(ids.1));
}

/// Entries that this member made as the leader of another term may come back to it as copies.
#[tokio::test]
async fn copies_are_stored_before_they_are_answered_for() {
    for (vote, entry) in [
        (Vote::new_committed(2, 2), entry(2, 2, 0)),
        (Vote::new_committed(2, 2), entry(1, ME, 0)),
        (Vote::new_committed(2, ME), entry(1, ME, 0)),
        (Vote::new(1, ME), entry(1, ME, 0)),
    ] {
        let (mut log, gate) = log();
        log.save_vote(&vote).await.unwrap();
        gate.set(false);
        let mut waiting = Box::pin(log.blocking_append([entry]));
        assert!(waiting.as_mut().now_or_never().is_none(), "{vote}");
        gate.set(true);
        waiting.await.unwrap();
    }
}

#[tokio::test]
async fn nobody_leads_again_in_the_term_it_led_before_a_restart() {
    let (mut log, _) = log();
    log.save_vote(&Vote::new_committed(4, ME)).await.unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(4, ME)));
    log.save_vote(&Vote::new_committed(5, 2)).await.unwrap();
    assert_eq!(
        log.read_vote().await.unwrap(),
        Some(Vote::new_committed(5, 2)),
        "another's is kept"
    );
}
