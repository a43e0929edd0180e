//! How a member's log ends.

use futures_util::FutureExt as _;
use kit_clock::SystemClock;

use super::fragile::{FragileDisk, Images};
use super::*;

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A member alone in its cluster, once it leads.
async fn lone(tasks: &Tasks, disk: &FragileDisk<3>) -> Node {
    let addr = "127.0.0.1:1";
    let start = Start {
        store: Store::with_backends(disk.files()).unwrap(),
        state: Arc::new(State::new(Arc::new(SystemClock::start()), Default::default())),
        addr,
        peers: &[addr.to_owned()],
        timing: RaftTiming::default(),
        dialer: Arc::new(Direct),
    };
    let node = Node::start(tasks, start).await.unwrap();
    let leads = node.until(|node| node.leadership() == Leadership::Me);
    tokio::time::timeout(PATIENCE, leads).await.unwrap();
    node
}

#[tokio::test]
async fn a_failed_disk_ends_the_log_and_the_reason_is_told() {
    let (tasks, disk) = (Tasks::root("test"), FragileDisk::holding(Images::default()));
    let node = lone(&tasks, &disk).await;
    assert!(node.failed().now_or_never().is_none(), "nothing has failed yet");
    disk.cut_after(0);
    let write = Command::RemoveService { service: "web".to_owned().into() };
    assert!(matches!(node.propose(write).await, Err(ProposeError::Unconfirmed)));
    let reason = tokio::time::timeout(PATIENCE, node.failed()).await.unwrap();
    assert!(reason.contains("no power"), "{reason}");
    tasks.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_log_that_was_told_to_end_has_not_failed() {
    let (tasks, disk) = (Tasks::root("test"), FragileDisk::holding(Images::default()));
    let node = lone(&tasks, &disk).await;
    node.stop().await;
    assert!(node.failed().now_or_never().is_none());
    tasks.shutdown(PATIENCE).await;
}
