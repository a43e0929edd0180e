//! Answering other members on a connection of theirs.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::Node;
use super::frame::{self, Request, Response};

/// How long a member may be silent: a leader sends heartbeats all the time, and connections of a past
/// leader are of no use.
const SILENCE: Duration = Duration::from_secs(30);

/// Serves one connection, whose first byte was read already, until it ends.
pub(crate) async fn serve_peer(node: &Node, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let request = tokio::time::timeout(SILENCE, frame::read(&mut stream)).await??;
        let Some(request) = request else { return Ok(()) };
        let response = node.answer(request).await;
        let bytes = frame::encode(&response)?;
        tokio::time::timeout(SILENCE, frame::write(&mut stream, &bytes)).await??;
    }
}

impl Node {
    async fn answer(&self, request: Request) -> Response {
        match request {
            Request::Append(request) => Response::Append(self.raft.append_entries(request).await),
            Request::Vote(request) => Response::Vote(self.raft.vote(request).await),
            Request::Snapshot(request) => {
                Response::Snapshot(self.raft.install_snapshot(request).await)
            }
        }
    }
}
