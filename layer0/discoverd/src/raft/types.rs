//! The library's types filled in with ours.

use std::io::Cursor;

use openraft::BasicNode;

use super::command::{Answers, Proposal};

/// A member's id: made from its first address, kept in its store, so that it survives a change of
/// address.
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

/// FNV-1a: any stable spread over 64 bits does.
pub(crate) fn node_id(addr: &str) -> NodeId {
    addr.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
