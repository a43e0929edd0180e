//! Who votes, and the care for it: new voters catch up first, a lone voter's changed address is written
//! down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kit_backoff::Backoff;
use kit_tasks::Tasks;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};

use super::types::{NodeId, node_id};
use super::{Leadership, Node};

/// How long a new voter may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Why the voters stay as they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembershipError {
    /// Another member leads, or nobody.
    #[error("this server does not lead")]
    NotLeader(Leadership),
    /// The library says no, or the new member did not come up.
    #[error("discoverd: the peers cannot be changed now: {0}")]
    Failed(String),
}

impl Node {
    /// The addresses of the voters.
    pub(crate) fn peers(&self) -> Vec<String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let voters = membership.voter_ids().filter_map(|id| membership.get_node(&id));
        voters.map(|node| node.addr.clone()).collect()
    }

    /// Makes the member at `peer` a voter; a known one is fine. It is brought up to date first.
    pub(crate) async fn add_peer(&self, peer: &str) -> Result<(), MembershipError> {
        if self.voter(peer).is_some() {
            return Ok(());
        }
        let id = node_id(peer);
        let learn = self.raft.add_learner(id, BasicNode::new(peer), true);
        match tokio::time::timeout(CATCH_UP, learn).await {
            Ok(learnt) => learnt.map(drop).map_err(|error| failed(&error))?,
            Err(_) => return Err(MembershipError::Failed(format!("{peer} did not catch up"))),
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// The member at `peer` votes no longer; an unknown one is fine.
    pub(crate) async fn remove_peer(&self, peer: &str) -> Result<(), MembershipError> {
        match self.voter(peer) {
            Some(id) => self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await,
            None => Ok(()),
        }
    }

    fn voter(&self, addr: &str) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let mut voters = membership.voter_ids();
        voters.find(|id| membership.get_node(id).is_some_and(|node| node.addr == addr))
    }

    async fn change(
        &self,
        change: ChangeMembers<NodeId, BasicNode>,
    ) -> Result<(), MembershipError> {
        let changed = self.raft.change_membership(change, false).await;
        changed.map(drop).map_err(|error| failed(&error))
    }

    /// Starts what keeps the membership true: a lone voter leads at once, and its address is the one
    /// it listens on now.
    pub(super) fn spawn_keeper(&self, tasks: &Tasks) {
        let node = self.clone();
        tasks.spawn_until_stop("membership", async move {
            node.lead_alone().await;
            let mut pauses =
                Backoff::new(Duration::from_millis(100), Duration::from_secs(5), node.id);
            while let Err(error) = node.write_own_address().await {
                tracing::warn!(%error, "own address could not be written to the membership");
                tokio::time::sleep(pauses.next_delay()).await;
            }
        });
    }

    /// Nobody else could object to a lone voter: it does not wait for an election time-out.
    async fn lead_alone(&self) {
        let voters = self.raft.metrics().borrow().membership_config.voter_ids().collect::<Vec<_>>();
        if voters == [self.id]
            && self.leadership() == Leadership::Unknown
            && let Err(error) = self.raft.trigger().elect().await
        {
            tracing::warn!(%error, "election could not be started");
        }
    }

    async fn write_own_address(&self) -> Result<(), MembershipError> {
        self.until(|node| node.leadership() == Leadership::Me).await;
        let known = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.membership().get_node(&self.id).map(|node| node.addr.clone())
        };
        if known.as_deref() == Some(&self.addr) {
            return Ok(());
        }
        tracing::info!(before = ?known, now = %self.addr, "this member's address changed");
        let own = BTreeMap::from([(self.id, BasicNode::new(&self.addr))]);
        self.change(ChangeMembers::SetNodes(own)).await
    }
}

fn failed(error: &RaftError<NodeId, ClientWriteError<NodeId, BasicNode>>) -> MembershipError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            let leader = forward.leader_node.as_ref().map(|node| node.addr.clone());
            MembershipError::NotLeader(leader.map_or(Leadership::Unknown, Leadership::Other))
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(_)) | RaftError::Fatal(_) => {
            MembershipError::Failed(error.to_string())
        }
    }
}
