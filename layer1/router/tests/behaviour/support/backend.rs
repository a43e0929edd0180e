//! Backends: each connection runs a script over raw bytes, so that tests decide what a backend does
//! and see exactly what it got.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use kit_tasks::Tasks;
use tokio::net::TcpListener;

use super::client::{Connection, Head};

/// What a backend does with one connection.
pub(crate) type Script = Arc<dyn Fn(Connection) -> BoxFuture<'static, ()> + Send + Sync>;

pub(crate) struct Backend {
    pub(crate) addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl Backend {
    /// Runs a script for each connection.
    pub(crate) async fn script<F, Fut>(script: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, tasks) = (listener.local_addr().unwrap(), Tasks::root("backend"));
        let connections = Arc::new(AtomicUsize::new(0));
        let script: Script = Arc::new(move |connection| Box::pin(script(connection)));
        let (node, counter) = (tasks.clone(), connections.clone());
        tasks.spawn_until_stop("accept", async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                node.spawn_until_stop("connection", script(Connection::over(stream)));
            }
        });
        Self { addr, connections, tasks }
    }

    /// Answers every request of a connection with what `answer` makes of its head and body.
    pub(crate) async fn answering<F>(answer: F) -> Self
    where
        F: Fn(&Head, &[u8]) -> String + Send + Sync + 'static,
    {
        let answer = Arc::new(answer);
        Self::script(move |mut connection| {
            let answer = answer.clone();
            async move {
                while let Some((head, body)) = connection.read_request().await {
                    if connection.write(answer(&head, &body).as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Answers everything with its name.
    pub(crate) async fn named(name: &str) -> Self {
        let body = name.to_owned();
        Self::answering(move |_, _| ok(&body)).await
    }

    /// Answers with the head it got.
    pub(crate) async fn echo() -> Self {
        Self::answering(|head, _| ok(&head.text)).await
    }

    /// How many connections it accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// A plain answer.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
