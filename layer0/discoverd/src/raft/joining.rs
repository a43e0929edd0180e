//! How a server comes to belong to a cluster. A new store belongs to none. The servers that were named as
//! first voters found one together: the first of them by address does, once all of them answered that
//! they have no log and were told the same list. Every other server with a new store asks to be taken in,
//! and follows without a vote. So does one that lost its disk: its store has a new id, which never voted,
//! and gets the vote of the lost one only from the leader. See docs/adr/0004-founding-and-joining.md.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use kit_backoff::Backoff;
use kit_tasks::Tasks;
use openraft::BasicNode;

use super::frame::{Change, Hello};
use super::membership::MembershipError;
use super::{Leadership, Node, RaftError};

/// How often a member looks whether it still belongs.
const LOOK: Duration = Duration::from_millis(250);
/// Pauses between tries to found or join.
const TRY_AGAIN: Duration = Duration::from_millis(100);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(2);

impl Node {
    /// Founds the cluster of a server that is alone.
    pub(super) async fn found_alone(&self) -> Result<(), RaftError> {
        if self.founders.iter().eq([&self.addr]) && !self.is_founded() {
            let own = BTreeMap::from([(self.id, BasicNode::new(&self.addr))]);
            self.raft.initialize(own).await.map_err(RaftError::library)?;
        }
        Ok(())
    }

    /// Starts what founds, joins, and looks after the membership.
    pub(super) fn spawn_keeper(&self, tasks: &Tasks) {
        let node = self.clone();
        tasks.spawn_until_stop("membership", async move {
            let mut pauses = Backoff::new(TRY_AGAIN, TRY_AGAIN_MAX, node.id);
            let mut told = String::new();
            loop {
                let kept = match node.belongs() {
                    true if node.leadership() == Leadership::Me => node.tend().await,
                    true => Ok(()),
                    false => node.found_or_join().await,
                };
                let Err(error) = kept else {
                    pauses.reset();
                    told.clear();
                    tokio::time::sleep(LOOK).await;
                    continue;
                };
                let reason = error.to_string();
                if reason == told {
                    tracing::debug!(%reason, "still no full member");
                } else {
                    tracing::info!(%reason, "waiting for other members");
                    told = reason;
                }
                tokio::time::sleep(pauses.next_delay()).await;
            }
        });
    }

    /// What this server says to another that asks who it is.
    pub(super) fn hello(&self, peers: &BTreeSet<String>) -> Hello {
        let (id, founded) = (self.id, self.is_founded());
        Hello { id, founded, agrees: *peers == *self.founders }
    }

    /// Whether there is a log here.
    pub(super) fn is_founded(&self) -> bool {
        // The library's figures come a moment after a start.
        self.restarted || self.raft.metrics().borrow().last_log_index.is_some()
    }

    /// Whether a leader knows this server as a member, at its address.
    fn belongs(&self) -> bool {
        self.leadership() != Leadership::Unknown && self.members().contains_key(&self.id)
    }

    async fn found_or_join(&self) -> Result<(), MembershipError> {
        if !self.is_founded() && self.founders.first() == Some(&self.addr) && self.found().await? {
            return Ok(());
        }
        let known = self.members().into_values().chain(self.founders.iter().cloned());
        let others: BTreeSet<_> = known.filter(|addr| *addr != self.addr).collect();
        let change = Change::Admit { id: self.id, addr: self.addr.clone() };
        self.change(others.into_iter().collect(), change).await.map(drop)
    }

    /// Founds the cluster if all first voters are there and new; false when there is one already.
    async fn found(&self) -> Result<bool, MembershipError> {
        let greetings = self.founders.iter().map(async |addr| (addr, self.greet(addr).await));
        let mut founders = BTreeMap::new();
        let mut missing = Vec::new();
        for (addr, greeting) in join_all(greetings).await {
            match greeting {
                Ok(Hello { founded: true, .. }) => return Ok(false),
                Ok(Hello { agrees: false, .. }) => {
                    return Err(MembershipError::Refused(format!(
                        "{addr} was told other first voters than {:?}: give all the same list",
                        self.founders
                    )));
                }
                Ok(Hello { id, .. }) => {
                    founders.insert(id, BasicNode::new(addr));
                }
                Err(_) => missing.push(addr.as_str()),
            }
        }
        if !missing.is_empty() {
            return Err(MembershipError::Failed(format!(
                "a cluster is founded when all its first voters are there; {} do not answer yet",
                missing.join(", ")
            )));
        }
        tracing::info!(voters = ?self.founders, "founding a cluster");
        let founded = self.raft.initialize(founders).await;
        founded.map_err(|error| MembershipError::Failed(error.to_string()))?;
        Ok(true)
    }
}
