//! Drives the leases: who leads, who stopped its heartbeats, what is written about it.

use std::sync::Arc;
use std::time::Duration;

use discoverd_registry::Command;
use kit_tasks::Tasks;
use tokio::time::Instant;

use crate::Config;
use crate::raft::{Leadership, Node};
use crate::state::State;

/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Starts the loop.
pub(crate) fn start(tasks: &Tasks, config: &Config, state: Arc<State>, node: Node) {
    let (interval, patience) = (config.expiry_interval, config.leases.doubtful_after());
    tasks.spawn_until_stop("expiry", async move {
        let mut looked = Instant::now();
        loop {
            let due = state.until_next_lease().unwrap_or(interval);
            tokio::time::sleep(due.clamp(PAUSE, interval.max(PAUSE))).await;
            // A process that stood still did not read the heartbeats that wait in its sockets, and a
            // leader that lost its quorum may have lost its clients too.
            let stood_still = looked.elapsed() > interval + patience;
            looked = Instant::now();
            let alone = node.since_quorum().is_none_or(|since| since > patience);
            let leads = (node.leadership() == Leadership::Me).then(|| node.term());
            let lapsed = state.drive_leases(leads, !stood_still && !alone);
            if lapsed.is_empty() {
                continue;
            }
            tracing::info!(instances = lapsed.len(), "heartbeats stopped, instances expire");
            if let Err(error) = node.propose(Command::Expire { lapsed: lapsed.clone() }).await {
                tracing::warn!(%error, "expiry could not be written, trying again");
                state.expiry_failed(lapsed);
            }
        }
    });
}
