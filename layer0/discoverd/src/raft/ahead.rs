//! A commit told before the library asks for it.
//!
//! A leader whose disk has an entry before the other member has answered says at once that the entry is
//! committed, if the two of them are a majority: who accepts the message has the entry on its own disk, as
//! the library (openraft 0.9) takes no message before the last one's entries are there. So it tells its
//! watchers then, and not only when its answer was heard, counted, and told back. To the other member this
//! is the message the library sends after that, so the library is given this one's answer.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::raft::AppendEntriesRequest;
use openraft::{BasicNode, RaftMetrics};
use tokio::sync::watch;
use tokio::time::Instant;

use super::types::{LogId, NodeId, Types, Vote};

/// A commit that is told alone: the leader under this vote has its log up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    vote: Vote,
    pub(super) upto: LogId,
}

impl Commit {
    /// Of what these entries end with, if the leader that sends them has made that one itself: an older
    /// leader's is committed with a newer entry only (Raft, section 5.4.2).
    pub(super) fn after(rpc: &AppendEntriesRequest<Types>) -> Option<Self> {
        let upto = rpc.entries.last()?.log_id;
        (upto.leader_id == rpc.vote.leader_id).then_some(Self { vote: rpc.vote, upto })
    }

    pub(super) fn message(&self) -> AppendEntriesRequest<Types> {
        let upto = Some(self.upto);
        AppendEntriesRequest {
            vote: self.vote,
            prev_log_id: upto,
            entries: Vec::new(),
            leader_commit: upto,
        }
    }

    /// Whether this is the same message.
    fn is(&self, rpc: &AppendEntriesRequest<Types>) -> bool {
        let upto = Some(self.upto);
        let told = (rpc.vote, rpc.prev_log_id, rpc.leader_commit);
        rpc.entries.is_empty() && told == (self.vote, upto, upto)
    }
}

/// What was told ahead and when.
#[derive(Debug)]
pub(super) struct Told {
    commit: Commit,
    at: Instant,
}

impl Told {
    pub(super) fn now(commit: Commit) -> Self {
        Self { commit, at: Instant::now() }
    }

    /// Whether it was this message, so short a time ago.
    pub(super) fn is(&self, rpc: &AppendEntriesRequest<Types>, fresh: Duration) -> bool {
        self.commit.is(rpc) && self.at.elapsed() <= fresh
    }
}

/// Whether a leader and one more member are a majority.
#[derive(Clone, Debug, Default)]
pub(super) struct Majority(Arc<OnceLock<watch::Receiver<RaftMetrics<NodeId, BasicNode>>>>);

impl Majority {
    /// Tells from where the members are known. Until then nothing is a majority.
    pub(super) fn known_by(&self, metrics: watch::Receiver<RaftMetrics<NodeId, BasicNode>>) {
        // Told once, by who made it.
        drop(self.0.set(metrics));
    }

    /// Whether this member, leading under that vote, and the other one are a majority of those who vote on
    /// the entry. Never while the voters change, and only of the newest entry: a newer one brings the news
    /// of older ones itself.
    pub(super) fn is_with(&self, other: NodeId, commit: &Commit) -> bool {
        let Some(metrics) = self.0.get() else { return false };
        let metrics = metrics.borrow();
        // Members of the moment when the entry was the newest: no change of them up to it is missed.
        let is_known = metrics.last_log_index == Some(commit.upto.index);
        let membership = metrics.membership_config.membership();
        let [voters] = membership.get_joint_config().as_slice() else { return false };
        let both = voters.contains(&metrics.id) && voters.contains(&other);
        metrics.vote == commit.vote && is_known && both && voters.len() / 2 < 2
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use openraft::{CommittedLeaderId, EntryPayload, Membership, StoredMembership};

    use super::super::types::Entry;
    use super::*;

    const TERM: u64 = 5;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term, 1), index)
    }

    fn vote() -> Vote {
        Vote::new_committed(TERM, 1)
    }

    fn request(entries: &[LogId], upto: Option<LogId>) -> AppendEntriesRequest<Types> {
        let blank = |log_id: &LogId| Entry { log_id: *log_id, payload: EntryPayload::Blank };
        AppendEntriesRequest {
            vote: vote(),
            prev_log_id: upto,
            entries: entries.iter().map(blank).collect(),
            leader_commit: upto,
        }
    }

    /// The majority of a leader 1 that knows these configurations, the newest of them at entry 8, the end of its log.
    fn leader_of(configs: Vec<BTreeSet<NodeId>>) -> Majority {
        let all: BTreeSet<NodeId> = (1..=9).collect();
        let mut metrics = RaftMetrics::new_initial(1);
        metrics.vote = vote();
        metrics.last_log_index = Some(8);
        let membership = Membership::new(configs, all);
        metrics.membership_config = Arc::new(StoredMembership::new(Some(id(TERM, 8)), membership));
        let majority = Majority::default();
        majority.known_by(watch::channel(metrics).1);
        majority
    }

    fn voters(ids: impl IntoIterator<Item = NodeId>) -> BTreeSet<NodeId> {
        ids.into_iter().collect()
    }

    #[test]
    fn two_of_three_are_a_majority_and_nothing_else_is_taken_for_one() {
        let commit = Commit { vote: vote(), upto: id(TERM, 8) };
        assert!(!Majority::default().is_with(2, &commit), "nothing is known yet");
        for (configs, with_two, why) in [
            (vec![voters(1..=3)], true, "two of three"),
            (vec![voters(1..=2)], true, "both"),
            (vec![voters(1..=4)], false, "two of four"),
            (vec![voters(1..=5)], false, "two of five"),
            (vec![voters([1])], false, "the other does not vote"),
            (vec![voters([1, 3, 4])], false, "the other does not vote"),
            (vec![voters([2, 3, 4])], false, "the leader does not vote any more"),
            (vec![voters(1..=3), voters([1, 2, 4])], false, "the voters change"),
        ] {
            assert_eq!(leader_of(configs).is_with(2, &commit), with_two, "{why}");
        }
        let three = leader_of(vec![voters(1..=3)]);
        let newer = Commit { upto: id(TERM, 9), ..commit };
        assert!(!three.is_with(2, &newer), "entry 9 may change the voters");
        let older = Commit { upto: id(TERM, 7), ..commit };
        assert!(!three.is_with(2, &older), "other voters may have been asked then");
        let later = Commit { vote: Vote::new_committed(TERM + 1, 1), ..commit };
        assert!(!three.is_with(2, &later), "it does not lead under that vote");
    }

    #[test]
    fn only_what_the_leader_itself_has_made_is_committed_by_its_copies() {
        let of = |entries: &[LogId]| Commit::after(&request(entries, None)).map(|it| it.upto);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[id(TERM - 1, 3)]), None);
        assert_eq!(of(&[id(TERM - 1, 3), id(TERM, 4)]), Some(id(TERM, 4)));
    }

    #[test]
    fn what_was_told_is_the_message_of_the_same_commit_for_a_while() {
        let told = Told::now(Commit { vote: vote(), upto: id(TERM, 8) });
        let long = Duration::from_secs(3600);
        assert!(told.is(&told.commit.message(), long));
        assert!(told.is(&request(&[], Some(id(TERM, 8))), long));
        assert!(!told.is(&request(&[id(TERM, 9)], Some(id(TERM, 8))), long), "more entries");
        assert!(!told.is(&request(&[], Some(id(TERM, 7))), long), "another commit");
        let other = AppendEntriesRequest {
            vote: Vote::new_committed(TERM + 1, 1),
            ..told.commit.message()
        };
        assert!(!told.is(&other, long), "under another vote");
        let old = Told { at: told.at - Duration::from_millis(2), ..told };
        assert!(!old.is(&old.commit.message(), Duration::from_millis(1)), "too long ago");
    }
}
