//! Drives the leases: who leads, who stopped its heartbeats, what is written about it. What is to be made
//! of that, [`Leased`](discoverd_registry::Leased) says.

use std::sync::Arc;

use discoverd_registry::{Command, Look};
use kit_tasks::Tasks;
use tokio::time::Instant;

use crate::Config;
use crate::raft::{Leadership, Node};
use crate::state::State;

/// Starts the loop.
pub(crate) fn start(tasks: &Tasks, config: &Config, state: Arc<State>, node: Node) {
    let longest = config.expiry_interval;
    tasks.spawn_until_stop("expiry", async move {
        let mut looked = Instant::now();
        loop {
            tokio::time::sleep(state.next_look(longest)).await;
            let since_look = looked.elapsed();
            looked = Instant::now();
            let leads = (node.leadership() == Leadership::Me).then(|| node.term());
            let look = Look { leads, since_look, since_quorum: node.since_quorum() };
            let lapsed = state.look(look);
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
