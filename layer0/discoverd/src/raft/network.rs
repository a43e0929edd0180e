//! Asking other members: one connection each, made when it is needed and dropped at the first fault.

use std::io;
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
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::frame::{self, MARK, Request, Response};
use super::types::{NodeId, Types};

/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(1);
/// The pause before an unreachable member is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Network;

/// The way to one member.
#[derive(Debug)]
pub(crate) struct Peer {
    id: NodeId,
    addr: String,
    stream: Option<TcpStream>,
}

type Failure<E> = RPCError<NodeId, BasicNode, RaftError<NodeId, E>>;

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, node: &BasicNode) -> Peer {
        Peer { id: target, addr: node.addr.clone(), stream: None }
    }
}

impl Peer {
    async fn ask<E: std::error::Error>(
        &mut self,
        bytes: Vec<u8>,
        option: RPCOption,
    ) -> Result<Response, Failure<E>> {
        match tokio::time::timeout(option.hard_ttl(), self.exchange(&bytes)).await {
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
            None => connect(&self.addr).await?,
        };
        frame::write(&mut stream, bytes).await?;
        let response = frame::read(&mut stream).await?;
        // Kept only after a whole exchange, so that no later one reads an old answer.
        self.stream = Some(stream);
        response.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn refused<E: std::error::Error>(&self, error: RaftError<NodeId, E>) -> Failure<E> {
        RPCError::RemoteError(RemoteError::new(self.id, error))
    }
}

async fn connect(addr: &str) -> io::Result<TcpStream> {
    let mut stream = tokio::time::timeout(CONNECT, TcpStream::connect(addr)).await??;
    stream.set_nodelay(true)?;
    stream.write_all(&[MARK]).await?;
    Ok(stream)
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
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failure<openraft::error::Infallible>> {
        let half = u64::try_from(rpc.entries.len() / 2).unwrap_or(u64::MAX).max(1);
        let bytes = match frame::encode(&Request::Append(rpc)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(PayloadTooLarge::new_entries_hint(half).into());
            }
            Err(error) => return Err(unencodable(&error)),
        };
        match self.ask(bytes, option).await? {
            Response::Append(answer) => answer.map_err(|error| self.refused(error)),
            Response::Vote(_) | Response::Snapshot(_) => Err(confused()),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, Failure<InstallSnapshotError>> {
        let bytes = frame::encode(&Request::Snapshot(rpc)).map_err(|error| unencodable(&error))?;
        match self.ask(bytes, option).await? {
            Response::Snapshot(answer) => answer.map_err(|error| self.refused(error)),
            Response::Append(_) | Response::Vote(_) => Err(confused()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, Failure<openraft::error::Infallible>> {
        let bytes = frame::encode(&Request::Vote(rpc)).map_err(|error| unencodable(&error))?;
        match self.ask(bytes, option).await? {
            Response::Vote(answer) => answer.map_err(|error| self.refused(error)),
            Response::Append(_) | Response::Snapshot(_) => Err(confused()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(PAUSE))
    }
}
