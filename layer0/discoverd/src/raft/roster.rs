//! Who belongs to the cluster, for people: every member's address and whether it votes. It decides
//! nothing; changes are [`super::membership`]'s.

use std::collections::BTreeSet;

use discoverd_api::RaftMember;

use super::Node;

impl Node {
    /// All members as this one knows them, by address. One that lost its disk may stand there twice until
    /// the leader has given its vote to the new one.
    pub(crate) fn roster(&self) -> Vec<RaftMember> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<_> = membership.voter_ids().collect();
        let nodes = membership.nodes();
        let mut all: Vec<_> = nodes
            .map(|(id, node)| RaftMember { addr: node.addr.clone(), votes: voters.contains(id) })
            .collect();
        all.sort();
        all
    }
}
