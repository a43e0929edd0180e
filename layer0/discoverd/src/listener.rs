//! One port for HTTP and for other members: the first byte of a connection says which.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use kit_backoff::Backoff;
use kit_http::ServeOptions;
use kit_tasks::Tasks;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::raft::{self, Node};

/// Connections at one time. Watchers hold one each; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 8192;
/// How long a request's head may take, and a connection be idle between requests.
const HEAD: Duration = Duration::from_secs(30);
/// How long a stop waits for requests in progress.
const DRAIN: Duration = Duration::from_secs(3);
/// How a request begins: the methods of HTTP.
const METHODS: &[u8] = b"CDGHOPT";

/// Serves one listener until the tasks are stopped.
pub(crate) fn start(
    tasks: &Tasks,
    listener: TcpListener,
    router: Router,
    node: Node,
    first_byte: Duration,
) {
    let owner = tasks.child("connections");
    tasks.spawn_until_stop("accept", async move {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut pauses =
            Backoff::new(Duration::from_millis(5), Duration::from_secs(1), rand::random());
        // A semaphore that is never closed gives a permit.
        while let Ok(permit) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    pauses.reset();
                    let server = Connection {
                        tasks: owner.clone(),
                        router: router.clone(),
                        node: node.clone(),
                    };
                    owner.spawn("connection", async move {
                        server.serve(stream, peer, first_byte).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "connection could not be accepted");
                    tokio::time::sleep(pauses.next_delay()).await;
                }
            }
        }
    });
}

struct Connection {
    tasks: Tasks,
    router: Router,
    node: Node,
}

impl Connection {
    async fn serve(self, mut stream: TcpStream, peer: SocketAddr, patience: Duration) {
        let mut first = [0];
        let seen = tokio::select! {
            () = self.tasks.stopping() => return,
            seen = tokio::time::timeout(patience, stream.peek(&mut first)) => seen,
        };
        match (seen, first[0]) {
            (Ok(Ok(1)), raft::MARK) => {
                // The byte is only a mark; it is there already.
                if stream.read_u8().await.is_ok() {
                    self.member(stream, peer).await;
                }
            }
            (Ok(Ok(1)), byte) if METHODS.contains(&byte) => self.http(stream, peer).await,
            (Ok(_) | Err(_), _) => {}
        }
    }

    async fn member(&self, stream: TcpStream, peer: SocketAddr) {
        let served = tokio::select! {
            () = self.tasks.stopping() => return,
            served = raft::serve_peer(&self.node, stream) => served,
        };
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "connection of another member ended");
        }
    }

    async fn http(self, stream: TcpStream, peer: SocketAddr) {
        // Fails only on a connection that is gone, which its first read tells.
        drop(stream.set_nodelay(true));
        let options =
            ServeOptions { header_timeout: HEAD, drain: DRAIN, max_connections: CONNECTIONS };
        kit_http::serve_connection(&self.tasks, stream, Some(peer), &self.router, options).await;
    }
}
