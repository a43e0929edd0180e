//! Messages between members: four bytes of length, then JSON. Both sides bound what they read.

use std::collections::BTreeSet;
use std::io;

use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::membership::MembershipError;
use super::types::{LogId, NodeId, Types};

/// The first byte of a connection between members; HTTP never starts with it.
pub(crate) const MARK: u8 = 0xff;

/// The largest message. Larger appends are split by the library; a snapshot chunk of 1 MiB fits.
pub(super) const MAX_FRAME: usize = 16 << 20;

/// Room for a message with an entry or two.
const COMMON: usize = 1000;

/// What one member asks of another. A message of the log names the member it is for: another one that
/// has its address now must not vote or store in its place.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Append(NodeId, AppendEntriesRequest<Types>),
    Vote(NodeId, VoteRequest<NodeId>),
    Snapshot(NodeId, InstallSnapshotRequest<Types>),
    /// Whether it would vote for one whose log ends there.
    WouldVote(NodeId, Option<LogId>),
    /// Who it is; `peers` are the first voters the asking one was told.
    Hello {
        peers: BTreeSet<String>,
    },
    /// A change of members, which only the leader makes.
    Change(Change),
}

/// What the other answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    Append(Result<AppendEntriesResponse<NodeId>, RaftError<NodeId>>),
    Vote(Result<VoteResponse<NodeId>, RaftError<NodeId>>),
    Snapshot(Result<InstallSnapshotResponse<NodeId>, RaftError<NodeId, InstallSnapshotError>>),
    WouldVote(bool),
    Hello(Hello),
    /// The index of the registry after the change.
    Changed(Result<u64, MembershipError>),
    /// The message was for another member.
    Stranger,
}

/// Who a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) id: NodeId,
    /// It has a log: its cluster was founded.
    pub(super) founded: bool,
    /// It was told the same first voters.
    pub(super) agrees: bool,
}

/// A change of members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    /// A server wants to be known: one that does not vote when it is new, at another address when it
    /// is not.
    Admit { id: NodeId, addr: String },
    /// The server at this address is to vote.
    Promote { addr: String },
    /// The server at this address is to follow without voting.
    Demote { addr: String },
}

/// The bytes of a message, its length before it.
pub(super) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(COMMON);
    bytes.extend([0; 4]);
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > MAX_FRAME {
        let text = format!("a message of {length} bytes is larger than {MAX_FRAME}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let length = u32::try_from(length).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// The next message; None at the end of the connection.
pub(super) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let length = match stream.read_u32().await {
        Ok(length) => usize::try_from(length).map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MAX_FRAME {
        let text = format!("a message of {length} bytes is larger than {MAX_FRAME}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}
