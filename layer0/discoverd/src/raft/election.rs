//! When this member stands for election. The library would raise its term at each time-out, so that a
//! member that was cut off for a while deposes a healthy leader the moment it returns. Its timer is off;
//! here a member first asks the others whether they would vote for it (Raft, section 9.6: pre-vote), and
//! raises its term only when a quorum has lost the leader as well.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kit_tasks::Tasks;
use openraft::ServerState;
use rand::Rng as _;
use tokio::time::Instant;

use super::Node;
use super::dial;
use super::frame::{Request, Response};
use super::types::{LogId, NodeId};

impl Node {
    /// Starts the timer.
    pub(super) fn spawn_elections(&self, tasks: &Tasks) {
        let node = self.clone();
        tasks.spawn_until_stop("elections", async move {
            if node.restarted {
                // Who votes is known a moment after a start.
                node.until(|node| node.raft.metrics().borrow().last_log_index.is_some()).await;
            }
            // Nobody else could object to a lone voter: it does not wait.
            let mut patience = if node.is_lone_voter() { Duration::ZERO } else { node.patience() };
            let mut tried = Instant::now();
            loop {
                let silent = node.leader.silent().unwrap_or(Duration::MAX);
                let silent = silent.min(tried.elapsed());
                if silent < patience {
                    tokio::time::sleep(patience - silent).await;
                    continue;
                }
                if node.may_stand() && node.would_win().await {
                    tracing::info!(after = ?silent, "no leader is heard: standing for election");
                    if let Err(error) = node.raft.trigger().elect().await {
                        tracing::warn!(%error, "election could not be started");
                    }
                }
                (tried, patience) = (Instant::now(), node.patience());
            }
        });
    }

    fn patience(&self) -> Duration {
        rand::rng().random_range(self.timing.election..self.timing.election * 2)
    }

    fn is_lone_voter(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.voter_ids().eq([self.id])
    }

    fn may_stand(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.state != ServerState::Leader
            && metrics.membership_config.voter_ids().any(|id| id == self.id)
    }

    /// Asks the other voters; true as soon as this member would have a quorum of each part of the
    /// membership.
    async fn would_win(&self) -> bool {
        let (parts, others) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let membership = metrics.membership_config.membership();
            let voters = membership.voter_ids().collect::<BTreeSet<_>>();
            let nodes = membership.nodes().filter(|(id, _)| voters.contains(id) && **id != self.id);
            let others: Vec<_> = nodes.map(|(id, node)| (*id, node.addr.clone())).collect();
            (membership.get_joint_config().clone(), others)
        };
        let last = self.last_log();
        let mut granted = BTreeSet::from([self.id]);
        let asked = others.into_iter().map(|(id, addr)| self.ask_for_vote(id, addr, last));
        let mut answers = asked.collect::<FuturesUnordered<_>>();
        while !is_quorum(&parts, &granted) {
            match answers.next().await {
                Some(yes) => granted.extend(yes),
                None => return false,
            }
        }
        true
    }

    async fn ask_for_vote(&self, id: NodeId, addr: String, last: Option<LogId>) -> Option<NodeId> {
        let request = Request::WouldVote(id, last);
        let patience = self.timing.election;
        match dial::ask(self.dialer.as_ref(), &addr, &request, patience).await {
            Ok(Response::WouldVote(yes)) => yes.then_some(id),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%addr, %error, "a voter could not be asked");
                None
            }
        }
    }

    /// Whether this member would vote for another one whose log ends at `last`: it hears no leader, is
    /// none, and has no longer log.
    pub(super) fn would_vote(&self, last: Option<LogId>) -> bool {
        let lease = self.timing.election;
        let leads = self.since_quorum().is_some_and(|since| since < lease);
        let led = self.leader.silent().is_some_and(|silent| silent < lease);
        !leads && !led && last >= self.last_log()
    }

    fn last_log(&self) -> Option<LogId> {
        self.raft.data_metrics().borrow().last_log
    }
}

fn is_quorum(parts: &[BTreeSet<NodeId>], granted: &BTreeSet<NodeId>) -> bool {
    parts.iter().all(|part| part.intersection(granted).count() * 2 > part.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_a_majority_of_each_part() {
        let set = |ids: &[NodeId]| ids.iter().copied().collect::<BTreeSet<_>>();
        let joint = [set(&[1, 2, 3]), set(&[3, 4])];
        assert!(is_quorum(&joint, &set(&[1, 3, 4])));
        assert!(!is_quorum(&joint, &set(&[1, 2, 3])), "one of two is no majority");
        assert!(!is_quorum(&joint, &set(&[3, 4])));
        assert!(is_quorum(&[set(&[1])], &set(&[1])));
    }
}
