//! Answering other members on a connection of theirs.

use std::io;
use std::time::Duration;

use openraft::error::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::io::BufReader;
use tokio::net::TcpStream;

use super::Node;
use super::frame::{self, Request, Response};
use super::types::{NodeId, Types, Vote};

/// How long a member may be silent: a leader sends heartbeats all the time, and connections of a past
/// leader are of no use.
const SILENCE: Duration = Duration::from_secs(30);

/// Serves one connection, whose first byte was read already, until it ends.
pub(crate) async fn serve_peer(node: &Node, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let request = tokio::time::timeout(SILENCE, frame::read(&mut stream)).await??;
        let Some(request) = request else { return Ok(()) };
        let is_mere_commit =
            matches!(&request, Request::Append(_, append) if append.entries.is_empty());
        let response = node.answer(request).await;
        if is_mere_commit {
            // Watchers are told first of what it committed: they wait for it, the leader for nothing.
            tokio::task::yield_now().await;
        }
        let bytes = frame::encode(&response)?;
        tokio::time::timeout(SILENCE, frame::write(&mut stream, &bytes)).await??;
    }
}

impl Node {
    async fn answer(&self, request: Request) -> Response {
        match request {
            Request::Append(to, _) | Request::Vote(to, _) | Request::WouldVote(to, _)
                if to != self.id =>
            {
                Response::Stranger
            }
            Request::Snapshot(to, _) if to != self.id => Response::Stranger,
            Request::Append(_, request) => Response::Append(self.append(request).await),
            Request::Vote(_, request) => Response::Vote(self.raft.vote(request).await),
            Request::Snapshot(_, request) => {
                self.heard(&request.vote);
                Response::Snapshot(self.raft.install_snapshot(request).await)
            }
            Request::WouldVote(_, last) => Response::WouldVote(self.would_vote(last)),
            Request::Hello { peers } => Response::Hello(self.hello(&peers)),
            Request::Change(change) => Response::Changed(self.change_here(change).await),
        }
    }

    /// What a leader sends counts as heard when it comes and, as the disk may be slow, when it is stored.
    async fn append(
        &self,
        request: AppendEntriesRequest<Types>,
    ) -> Result<AppendEntriesResponse<NodeId>, RaftError<NodeId>> {
        let vote = request.vote;
        self.heard(&vote);
        let answer = self.raft.append_entries(request).await;
        self.heard(&vote);
        answer
    }

    fn heard(&self, vote: &Vote) {
        if *vote >= self.raft.metrics().borrow().vote {
            self.leader.heard();
        }
    }
}
