//! The library's types filled in with ours.

use std::io::Cursor;

use openraft::BasicNode;

use super::command::{Answers, Proposal};

/// A member's id: drawn at random for each new store and kept in it. It names the disk, not the address:
/// a store that was lost never comes back under its id.
pub(crate) type NodeId = u64;

openraft::declare_raft_types!(
    pub(crate) Types:
        D = Proposal,
        R = Answers,
        NodeId = NodeId,
        Node = BasicNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type StorageIOError = openraft::StorageIOError<NodeId>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, BasicNode>;
pub(crate) type Snapshot = openraft::Snapshot<Types>;
pub(crate) type StoredMembership = openraft::StoredMembership<NodeId, BasicNode>;
pub(crate) type Raft = openraft::Raft<Types>;
