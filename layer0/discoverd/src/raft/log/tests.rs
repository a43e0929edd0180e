//! When the library is told that entries are stored, and what waits for the disk instead.

use futures_util::FutureExt as _;
use openraft::storage::RaftLogStorageExt as _;

use super::super::gated::{Gate, entry, gated_store};
use super::*;

const ME: NodeId = 1;

fn log() -> (Log, Gate) {
    let (store, gate) = gated_store();
    (Log::new(store, ME), gate)
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
