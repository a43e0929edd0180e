//! Asking other members: one connection each, made when it is needed and dropped at the first fault.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    InstallSnapshotError, NetworkError, PayloadTooLarge, RPCError, RaftError, RemoteError,
    Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode};
use tokio::io::BufReader;
use tokio::net::TcpStream;

use super::dial::{Dial, connect};
use super::frame::{self, Request, Response};
use super::store::Store;
use super::types::{LogId, NodeId, Types};

/// The first pause before an unreachable member is tried again; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Network {
    pub(super) dialer: Arc<dyn Dial>,
    pub(super) store: Store,
}

/// The way to one member.
#[derive(Debug)]
pub(crate) struct Peer {
    id: NodeId,
    addr: String,
    dialer: Arc<dyn Dial>,
    store: Store,
    stream: Option<BufReader<TcpStream>>,
}

type Failure<E> = RPCError<NodeId, BasicNode, RaftError<NodeId, E>>;

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, node: &BasicNode) -> Peer {
        Peer {
            id: target,
            addr: node.addr.clone(),
            dialer: Arc::clone(&self.dialer),
            store: self.store.clone(),
            stream: None,
        }
    }
}

impl Peer {
    async fn ask<E: std::error::Error>(
        &mut self,
        bytes: Vec<u8>,
        option: RPCOption,
    ) -> Result<Response, Failure<E>> {
        match tokio::time::timeout(option.hard_ttl(), self.exchange(&bytes)).await {
            Ok(Ok(Response::Stranger)) => {
                self.stream = None;
                Err(Unreachable::new(&AnyError::error("another member has this address")).into())
            }
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                self.stream = None;
                Err(Unreachable::new(&error).into())
            }
            Err(elapsed) => {
                self.stream = None;
                Err(Unreachable::new(&elapsed).into())
            }
        }
    }

    async fn exchange(&mut self, bytes: &[u8]) -> io::Result<Response> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(connect(self.dialer.as_ref(), &self.addr).await?),
        };
        frame::write(&mut stream, bytes).await?;
        let response = frame::read(&mut stream).await?;
        // Kept only after a whole exchange, so that no later one reads an old answer.
        self.stream = Some(stream);
        response.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// How much of what the library calls committed is so: it counts this member's disk before that is
    /// done (see [`super::log`]). A slow disk holds up no heartbeat; the rest is told with a later one.
    pub(super) async fn settled(
        &self,
        committed: Option<LogId>,
        patience: Duration,
    ) -> Option<LogId> {
        let settled = self.store.journal().on_disk_upto(committed);
        if settled == committed {
            return settled;
        }
        // Whatever ends the wait, what is on disk then counts.
        drop(tokio::time::timeout(patience, self.store.on_disk(committed)).await);
        self.store.journal().on_disk_upto(committed)
    }

    fn refused<E: std::error::Error>(&self, error: RaftError<NodeId, E>) -> Failure<E> {
        RPCError::RemoteError(RemoteError::new(self.id, error))
    }
}

/// A member that answers another question than the one asked.
fn confused<E: std::error::Error>() -> Failure<E> {
    NetworkError::from(AnyError::error("the answer is to another question")).into()
}

fn unencodable<E: std::error::Error>(error: &io::Error) -> Failure<E> {
    NetworkError::from(AnyError::new(error)).into()
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        mut rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failure<openraft::error::Infallible>> {
        rpc.leader_commit = self.settled(rpc.leader_commit, option.hard_ttl() / 4).await;
        let half = u64::try_from(rpc.entries.len() / 2).unwrap_or(u64::MAX).max(1);
        let bytes = match frame::encode(&Request::Append(self.id, rpc)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(PayloadTooLarge::new_entries_hint(half).into());
            }
            Err(error) => return Err(unencodable(&error)),
        };
        let Response::Append(answer) = self.ask(bytes, option).await? else {
            return Err(confused());
        };
        answer.map_err(|error| self.refused(error))
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, Failure<InstallSnapshotError>> {
        let bytes =
            frame::encode(&Request::Snapshot(self.id, rpc)).map_err(|error| unencodable(&error))?;
        let Response::Snapshot(answer) = self.ask(bytes, option).await? else {
            return Err(confused());
        };
        answer.map_err(|error| self.refused(error))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, Failure<openraft::error::Infallible>> {
        let bytes =
            frame::encode(&Request::Vote(self.id, rpc)).map_err(|error| unencodable(&error))?;
        let Response::Vote(answer) = self.ask(bytes, option).await? else {
            return Err(confused());
        };
        answer.map_err(|error| self.refused(error))
    }

    fn backoff(&self) -> Backoff {
        let doubled = |pause: &Duration| Some((*pause * 2).min(PAUSE_MAX));
        Backoff::new(std::iter::successors(Some(PAUSE), doubled))
    }
}
