//! Who belongs to the cluster and who votes, as its leader changes it: one change at a time, and none
//! that would leave the voters without a quorum that answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers, ServerState};
use serde::{Deserialize, Serialize};

use super::dial;
use super::frame::{Change, Hello, Request, Response};
use super::types::NodeId;
use super::{Leadership, Node};

/// How long a new voter may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// So many entries may still be on their way to a member that is called up to date.
const LAG: u64 = 64;
/// How long a member may take to say who it is.
pub(super) const HELLO: Duration = Duration::from_secs(1);
/// Members of a cluster. Each costs its leader a connection and heartbeats.
const MEMBERS: usize = 1000;
/// Changes are passed on to the leader at most so often: leaders may change on the way.
const HOPS: usize = 3;

/// Why the members stay as they are.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MembershipError {
    /// Another member leads, or nobody.
    #[error("discoverd: no known leader")]
    NotLeader(Leadership),
    /// It would do harm.
    #[error("discoverd: {0}")]
    Refused(String),
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

    /// Where this machine's clients find the registry: here, and while this server is away at the voters.
    /// Whoever begins elsewhere depends on another machine for what it could read from its own.
    pub(crate) fn servers(&self) -> Vec<String> {
        let others = self.peers().into_iter().filter(|addr| *addr != self.addr);
        std::iter::once(self.addr.clone()).chain(others).collect()
    }

    /// Makes this member a voter, and waits until it knows.
    pub(crate) async fn promote(&self) -> Result<(), MembershipError> {
        self.change(Vec::new(), Change::Promote { addr: self.addr.clone() }).await?;
        let votes = self.until(|node| node.peers().contains(&node.addr));
        let late = |_| MembershipError::Failed("this server does not know of it yet".to_owned());
        tokio::time::timeout(CATCH_UP, votes).await.map_err(late)
    }

    /// This member follows without voting.
    pub(crate) async fn demote(&self) -> Result<(), MembershipError> {
        let change = Change::Demote { addr: self.addr.clone() };
        self.change(Vec::new(), change).await.map(drop)
    }

    /// Has the leader make a change. `ask` are servers to be asked who leads, where this one does not
    /// know.
    pub(super) async fn change(
        &self,
        mut ask: Vec<String>,
        change: Change,
    ) -> Result<u64, MembershipError> {
        match self.leadership() {
            Leadership::Me => return self.change_here(change).await,
            Leadership::Other(leader) => ask.push(leader),
            Leadership::Unknown => {}
        }
        let mut last = MembershipError::NotLeader(Leadership::Unknown);
        let mut hops = ask.len() + HOPS;
        while let Some(addr) = ask.pop() {
            let request = Request::Change(change.clone());
            let patience = CATCH_UP + self.timing.write;
            match dial::ask(self.dialer.as_ref(), &addr, &request, patience).await {
                Ok(Response::Changed(Err(MembershipError::NotLeader(leadership)))) => {
                    if let (Leadership::Other(leader), 1..) = (leadership, hops) {
                        ask.push(leader);
                    }
                }
                Ok(Response::Changed(result)) => return result,
                Ok(_) => last = MembershipError::Failed(format!("{addr} is confused")),
                Err(error) => last = MembershipError::Failed(format!("{addr}: {error}")),
            }
            hops = hops.saturating_sub(1);
        }
        Err(last)
    }

    /// Makes a change where this member leads; gives the registry's index after it.
    pub(super) async fn change_here(&self, change: Change) -> Result<u64, MembershipError> {
        match change {
            Change::Admit { id, addr } => self.admit(id, addr).await?,
            Change::Promote { addr } => self.add_peer(&addr).await?,
            Change::Demote { addr } => self.demote_peer(&addr).await?,
        }
        Ok(self.state.applied().0)
    }

    /// Makes the member at `peer` a voter; a known one is fine. It is brought up to date first.
    pub(crate) async fn add_peer(&self, peer: &str) -> Result<(), MembershipError> {
        let _one_at_a_time = self.leading().await?;
        let Hello { id, .. } = match self.greet(peer).await {
            Ok(hello) => hello,
            Err(_) if self.voters_at(peer).next().is_some() => return Ok(()),
            Err(error) => return Err(error),
        };
        if self.is_voter(id) {
            return Ok(());
        }
        if self.addr_of(id).is_none() {
            self.learn(id, peer).await?;
        }
        let late = |_| MembershipError::Failed(format!("{peer} did not catch up"));
        tokio::time::timeout(CATCH_UP, self.caught_up(id)).await.map_err(late)??;
        // One that had the address before lost its disk.
        let mut voters = self.voters();
        voters.retain(|voter| self.addr_of(*voter).as_deref() != Some(peer));
        voters.insert(id);
        self.write(ChangeMembers::ReplaceAllVoters(voters), false).await
    }

    /// The server at `peer` is no member any longer; an unknown one is fine. One that runs comes back by
    /// itself, without a vote.
    pub(crate) async fn remove_peer(&self, peer: &str) -> Result<(), MembershipError> {
        let _one_at_a_time = self.leading().await?;
        let leaving: BTreeSet<_> = self.voters_at(peer).collect();
        if !leaving.is_empty() {
            self.still_a_quorum_without(&leaving, peer).await?;
            self.write(ChangeMembers::RemoveVoters(leaving), false).await?;
        }
        let learners = self.members().into_iter().filter(|(_, addr)| addr == peer);
        let learners: BTreeSet<_> = learners.map(|(id, _)| id).collect();
        if learners.is_empty() {
            return Ok(());
        }
        self.write(ChangeMembers::RemoveNodes(learners), false).await
    }

    async fn demote_peer(&self, peer: &str) -> Result<(), MembershipError> {
        let _one_at_a_time = self.leading().await?;
        let leaving: BTreeSet<_> = self.voters_at(peer).collect();
        if leaving.is_empty() {
            return Ok(());
        }
        self.still_a_quorum_without(&leaving, peer).await?;
        self.write(ChangeMembers::RemoveVoters(leaving), true).await
    }

    /// Takes in a server that asks for it, or its new address.
    async fn admit(&self, id: NodeId, addr: String) -> Result<(), MembershipError> {
        let _one_at_a_time = self.leading().await?;
        let known = self.addr_of(id);
        if known.as_ref() == Some(&addr) {
            return Ok(());
        }
        if self.greet(&addr).await?.id != id {
            return Err(MembershipError::Refused(format!("another server answers at {addr}")));
        }
        if known.is_some() {
            tracing::info!(before = ?known, now = %addr, "a member's address changed");
            let there = BTreeMap::from([(id, BasicNode::new(&addr))]);
            return self.write(ChangeMembers::SetNodes(there), false).await;
        }
        if self.members().len() >= MEMBERS {
            return Err(MembershipError::Refused(format!("there are {MEMBERS} members already")));
        }
        tracing::info!(%addr, "a server joins");
        self.learn(id, &addr).await
    }

    /// What a leader looks after: changes that an earlier leader began, its own address, addresses that
    /// two members have because one of them lost its disk.
    pub(super) async fn tend(&self) -> Result<(), MembershipError> {
        let _one_at_a_time = self.leading().await?;
        let parts = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.membership().get_joint_config().clone()
        };
        if let [_, .., next] = parts.as_slice() {
            return self.write(ChangeMembers::ReplaceAllVoters(next.clone()), true).await;
        }
        let members = self.members();
        let known = members.get(&self.id);
        if known.is_some_and(|addr| *addr != self.addr) {
            tracing::info!(before = ?known, now = %self.addr, "this member's address changed");
            let own = BTreeMap::from([(self.id, BasicNode::new(&self.addr))]);
            return self.write(ChangeMembers::SetNodes(own), false).await;
        }
        let mut seen = BTreeSet::new();
        let twice = members.values().find(|addr| !seen.insert(*addr));
        match twice {
            Some(addr) => self.replace_lost(addr).await,
            None => Ok(()),
        }
    }

    /// Two members have this address: the one that does not answer there lost its disk, and the other
    /// gets its vote once it is up to date.
    async fn replace_lost(&self, addr: &str) -> Result<(), MembershipError> {
        let Hello { id, .. } = self.greet(addr).await?;
        let members = self.members();
        let lost = members.iter().filter(|(other, at)| *at == addr && **other != id);
        let (voters, learners): (BTreeSet<_>, BTreeSet<_>) =
            lost.map(|(id, _)| *id).partition(|id| self.is_voter(*id));
        if !learners.is_empty() {
            self.write(ChangeMembers::RemoveNodes(learners), false).await?;
        }
        if !voters.is_empty() && self.is_up_to_date(id) {
            tracing::info!(%addr, "a voter lost its disk: a new server votes in its place");
            let mut next = &self.voters() - &voters;
            next.insert(id);
            self.write(ChangeMembers::ReplaceAllVoters(next), false).await?;
        }
        Ok(())
    }

    /// Asks the server at an address who it is.
    pub(super) async fn greet(&self, addr: &str) -> Result<Hello, MembershipError> {
        if addr == self.addr {
            return Ok(self.hello(&self.founders));
        }
        let request = Request::Hello { peers: self.founders.as_ref().clone() };
        match dial::ask(self.dialer.as_ref(), addr, &request, HELLO).await {
            Ok(Response::Hello(hello)) => Ok(hello),
            Ok(_) => Err(MembershipError::Failed(format!("{addr} does not say who it is"))),
            Err(error) => Err(MembershipError::Failed(format!("{addr} does not answer: {error}"))),
        }
    }

    /// The lock under which a leader changes the members.
    async fn leading(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, MembershipError> {
        let guard = self.changing.lock().await;
        match self.leadership() {
            Leadership::Me => Ok(guard),
            elsewhere @ (Leadership::Other(_) | Leadership::Unknown) => {
                Err(MembershipError::NotLeader(elsewhere))
            }
        }
    }

    async fn still_a_quorum_without(
        &self,
        leaving: &BTreeSet<NodeId>,
        peer: &str,
    ) -> Result<(), MembershipError> {
        let rest = &self.voters() - leaving;
        if rest.is_empty() {
            return Err(MembershipError::Refused(format!(
                "{peer} is the last voter and stays one: promote another server first"
            )));
        }
        // Asked now: one that was just lost must not be counted on.
        let members = self.members();
        let asked = rest.iter().map(async |id| {
            let Some(addr) = members.get(id) else { return false };
            self.greet(addr).await.is_ok_and(|hello| hello.id == *id)
        });
        let answering = join_all(asked).await.into_iter().filter(|answers| *answers).count();
        let rest = rest.len();
        if answering * 2 > rest {
            return Ok(());
        }
        Err(MembershipError::Refused(format!(
            "without {peer} only {answering} of {rest} voters would answer, which is no quorum: bring back or remove the silent ones first"
        )))
    }

    async fn learn(&self, id: NodeId, addr: &str) -> Result<(), MembershipError> {
        let learnt = self.raft.add_learner(id, BasicNode::new(addr), false);
        self.in_time(learnt).await
    }

    async fn write(
        &self,
        change: ChangeMembers<NodeId, BasicNode>,
        retain: bool,
    ) -> Result<(), MembershipError> {
        self.in_time(self.raft.change_membership(change, retain)).await
    }

    async fn in_time<T>(
        &self,
        change: impl Future<Output = Result<T, RaftError<NodeId, ClientWriteError<NodeId, BasicNode>>>>,
    ) -> Result<(), MembershipError> {
        match tokio::time::timeout(self.timing.write, change).await {
            Ok(changed) => changed.map(drop).map_err(|error| failed(&error)),
            Err(_) => Err(MembershipError::Failed("no quorum confirmed it in time".to_owned())),
        }
    }

    async fn caught_up(&self, id: NodeId) -> Result<(), MembershipError> {
        while !self.is_up_to_date(id) {
            if self.raft.metrics().borrow().state != ServerState::Leader {
                return Err(MembershipError::NotLeader(self.leadership()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn is_up_to_date(&self, id: NodeId) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let stored = metrics.replication.as_ref().and_then(|all| all.get(&id).copied().flatten());
        let last = metrics.last_log_index.unwrap_or_default();
        id == self.id || stored.is_some_and(|stored| stored.index + LAG >= last)
    }

    /// All members with their addresses.
    pub(super) fn members(&self) -> BTreeMap<NodeId, String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let nodes = metrics.membership_config.membership().nodes();
        nodes.map(|(id, node)| (*id, node.addr.clone())).collect()
    }

    fn addr_of(&self, id: NodeId) -> Option<String> {
        self.members().remove(&id)
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.raft.metrics().borrow().membership_config.voter_ids().collect()
    }

    fn is_voter(&self, id: NodeId) -> bool {
        self.voters().contains(&id)
    }

    fn voters_at(&self, addr: &str) -> impl Iterator<Item = NodeId> {
        let (members, addr) = (self.members(), addr.to_owned());
        self.voters().into_iter().filter(move |id| members.get(id) == Some(&addr))
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
