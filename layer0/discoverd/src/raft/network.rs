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
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;

use super::ahead::{Commit, Majority, Told};
use super::dial::{Dial, connect};
use super::frame::{self, Request, Response};
use super::store::Store;
use super::types::{LogId, NodeId, Types};

/// The first pause before an unreachable member is tried again; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// The part of an exchange's time within which the library may ask for what was told ahead.
const FRESH: u32 = 10;

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Network {
    pub(super) dialer: Arc<dyn Dial>,
    pub(super) store: Store,
    pub(super) majority: Majority,
}

/// The way to one member.
#[derive(Debug)]
pub(crate) struct Peer {
    id: NodeId,
    addr: String,
    dialer: Arc<dyn Dial>,
    store: Store,
    majority: Majority,
    connection: Option<Connection>,
}

/// A connection between two exchanges.
#[derive(Debug)]
struct Connection {
    stream: BufReader<TcpStream>,
    /// Told after the last exchange's message; its answer was not read yet.
    ahead: Option<Told>,
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
            majority: self.majority.clone(),
            connection: None,
        }
    }
}

impl Peer {
    async fn ask<E: std::error::Error>(
        &mut self,
        bytes: Vec<u8>,
        option: RPCOption,
    ) -> Result<Response, Failure<E>> {
        let outcome = in_time(&option, self.exchange(&bytes, None)).await;
        Ok(self.heard(outcome).map_err(|error| Unreachable::new(&error))?)
    }

    /// After a fault, or if another member has this address, the connection is dropped.
    fn heard(&mut self, outcome: io::Result<Response>) -> io::Result<Response> {
        let answer = match outcome {
            Ok(Response::Stranger) => Err(io::Error::other("another member has this address")),
            outcome => outcome,
        };
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    /// A message and its answer. Between them the other is told what is committed then, if that is known.
    async fn exchange(&mut self, bytes: &[u8], then: Option<Commit>) -> io::Result<Response> {
        let Connection { mut stream, ahead } = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = connect(self.dialer.as_ref(), &self.addr).await?;
                Connection { stream: BufReader::new(stream), ahead: None }
            }
        };
        frame::write(&mut stream, bytes).await?;
        if ahead.is_some() {
            // Nobody asked for this answer; the next one counts.
            answer(&mut stream).await?;
        }
        let ahead = match then {
            Some(commit) => self.tell_ahead(&mut stream, commit).await?,
            None => None,
        };
        let response = answer(&mut stream).await?;
        // Kept only after a whole exchange, so that no later one reads an old answer.
        self.connection = Some(Connection { stream, ahead });
        Ok(response)
    }

    /// Waits until this member's disk has what is to be committed or the other one answers.
    async fn tell_ahead(
        &self,
        stream: &mut BufReader<TcpStream>,
        commit: Commit,
    ) -> io::Result<Option<Told>> {
        let stored = tokio::select! {
            biased;
            answered = stream.fill_buf() => return answered.map(|_| None),
            stored = self.store.on_disk(Some(commit.upto)) => stored.is_ok(),
        };
        if !stored || !self.majority.is_with(self.id, &commit) {
            return Ok(None);
        }
        let bytes = frame::encode(&Request::Append(self.id, commit.message()))?;
        frame::write(stream, &bytes).await?;
        Ok(Some(Told::now(commit)))
    }

    /// The answer to what was told ahead, if it was this message. The library notes that the member was
    /// heard when it asks, so what was told longer ago does not count.
    async fn told_ahead(
        &mut self,
        rpc: &AppendEntriesRequest<Types>,
        option: &RPCOption,
    ) -> Option<io::Result<Response>> {
        let fresh = option.hard_ttl() / FRESH;
        let told = |connection: &mut Connection| {
            connection.ahead.as_ref().is_some_and(|told| told.is(rpc, fresh))
        };
        let Connection { mut stream, .. } = self.connection.take_if(told)?;
        let response = in_time(option, answer(&mut stream)).await;
        self.connection = Some(Connection { stream, ahead: None });
        Some(response)
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

async fn in_time(
    option: &RPCOption,
    exchange: impl Future<Output = io::Result<Response>>,
) -> io::Result<Response> {
    tokio::time::timeout(option.hard_ttl(), exchange).await?
}

async fn answer(stream: &mut BufReader<TcpStream>) -> io::Result<Response> {
    frame::read(stream).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// How many entries to send next when so many are too many.
fn half(entries: usize) -> u64 {
    u64::try_from(entries / 2).unwrap_or(u64::MAX).max(1)
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
        let outcome = match self.told_ahead(&rpc, &option).await {
            Some(outcome) => outcome,
            None => {
                let (commit, half) = (Commit::after(&rpc), half(rpc.entries.len()));
                let bytes = match frame::encode(&Request::Append(self.id, rpc)) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                        return Err(PayloadTooLarge::new_entries_hint(half).into());
                    }
                    Err(error) => return Err(unencodable(&error)),
                };
                in_time(&option, self.exchange(&bytes, commit)).await
            }
        };
        let heard = self.heard(outcome).map_err(|error| Unreachable::new(&error))?;
        let Response::Append(answer) = heard else { return Err(confused()) };
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

#[cfg(test)]
mod tests;
