//! The server loop: accepts, serves HTTP/1.1 with upgrades, drains when its task node is stopped.
//! What is answered is the router's business.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use futures_util::StreamExt as _;
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use kit_backoff::Backoff;
use kit_tasks::{Running, Tasks};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::router;

/// How a server treats its connections.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// How long a connection may take to send a request's head, or be idle between requests.
    pub header_timeout: Duration,
    /// How long a stop waits for requests in progress. Event streams end at once.
    pub drain: Duration,
    /// Connections at one time; further ones wait in the kernel's queue. Upgraded ones do not count.
    pub max_connections: usize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            max_connections: 8192,
        }
    }
}

/// The TCP keep-alive of all connections.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Runs `router` on `listener` until the task node is stopped. Handlers may take
/// `axum::extract::ConnectInfo<SocketAddr>`.
pub fn serve(tasks: &Tasks, listener: TcpListener, router: Router) -> std::io::Result<Running> {
    serve_with(tasks, listener, router, ServeOptions::default())
}

/// [`serve`] with other options.
pub fn serve_with(
    tasks: &Tasks,
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
) -> std::io::Result<Running> {
    let addr = listener.local_addr()?;
    let node = tasks.child("http");
    let server = Server::new(&node, router, options);
    node.spawn("accept", async move {
        let mut pause = accept_backoff();
        while let Some(permit) = server.next_permit().await {
            match server.until_stop(listener.accept()).await {
                Some(Ok((stream, peer))) => {
                    pause.reset();
                    tune(&stream);
                    server.spawn(stream, Some(peer), permit);
                }
                Some(Err(error)) => server.accept_failed(&error, &mut pause).await,
                None => return,
            }
        }
    });
    Ok(Running { addrs: vec![addr], tasks: node })
}

/// [`serve`] on a unix socket. The caller owns the socket's file.
pub fn serve_unix(tasks: &Tasks, listener: UnixListener, router: Router) -> Running {
    let node = tasks.child("http-unix");
    let server = Server::new(&node, router, ServeOptions::default());
    node.spawn("accept", async move {
        let mut pause = accept_backoff();
        while let Some(permit) = server.next_permit().await {
            match server.until_stop(listener.accept()).await {
                Some(Ok((stream, _))) => {
                    pause.reset();
                    server.spawn(stream, None, permit);
                }
                Some(Err(error)) => server.accept_failed(&error, &mut pause).await,
                None => return,
            }
        }
    });
    Running { addrs: Vec::new(), tasks: node }
}

#[derive(Clone)]
struct Server {
    tasks: Tasks,
    router: Router,
    options: ServeOptions,
    slots: Arc<Semaphore>,
}

impl Server {
    fn new(tasks: &Tasks, router: Router, options: ServeOptions) -> Self {
        let slots = Arc::new(Semaphore::new(options.max_connections));
        Self { tasks: tasks.clone(), router, options, slots }
    }

    /// A slot for one connection; None when it is time to stop.
    async fn next_permit(&self) -> Option<OwnedSemaphorePermit> {
        self.until_stop(self.slots.clone().acquire_owned()).await?.ok()
    }

    async fn until_stop<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.tasks.stopping() => None,
            done = work => Some(done),
        }
    }

    /// Accepting fails when descriptors or memory ran out; at once again would fail again.
    async fn accept_failed(&self, error: &std::io::Error, pause: &mut Backoff) {
        tracing::warn!(%error, "connection could not be accepted");
        self.until_stop(tokio::time::sleep(pause.next_delay())).await;
    }

    fn spawn<T>(&self, stream: T, peer: Option<SocketAddr>, permit: OwnedSemaphorePermit)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { tasks, router, options, .. } = self.clone();
        self.tasks.spawn("connection", async move {
            serve_connection(&tasks, stream, peer, &router, options).await;
            drop(permit);
        });
    }
}

/// Serves the requests of one connection until it ends, for a listener that is not [`serve`]'s. A stop of the
/// task node lets the request in progress end.
pub async fn serve_connection<T>(
    tasks: &Tasks,
    stream: T,
    peer: Option<SocketAddr>,
    router: &Router,
    options: ServeOptions,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(|request| answer(tasks, router, request, peer));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tasks.stopping() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(options.drain, connection).await {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::debug!(?peer, "connection did not drain in time and was closed");
                    return;
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(?peer, error = %crate::error::chain(&error), "connection ended early");
    }
}

async fn answer(
    tasks: &Tasks,
    router: &Router,
    mut request: http::Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Result<Response, std::convert::Infallible> {
    if let Some(peer) = peer {
        request.extensions_mut().insert(ConnectInfo(peer));
    }
    let response = router::answer(router, request).await;
    Ok(end_events_at_stop(tasks, response))
}

/// An event stream has no end of its own: a drain would wait for it in vain.
fn end_events_at_stop(tasks: &Tasks, response: Response) -> Response {
    let content_type = response.headers().get(CONTENT_TYPE);
    if content_type.is_none_or(|value| !value.as_bytes().starts_with(b"text/event-stream")) {
        return response;
    }
    let stop = tasks.stop_token().cancelled_owned();
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(stop)))
}

fn tune(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    // Both fail only when the connection is gone already, which its first read will tell.
    drop(stream.set_nodelay(true));
    drop(socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive));
}

fn accept_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(5), Duration::from_secs(1), rand::random())
}
