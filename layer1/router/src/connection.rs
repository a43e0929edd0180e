//! One client connection: the optional PROXY line, TLS, HTTP/1.1 or HTTP/2, and its age in each phase,
//! so that slow and idle clients can be told apart from busy ones without a timer per request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use ::http::HeaderValue;
use bytes::{Buf as _, Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::http;
use crate::pool::Tick;
use crate::proxy_protocol::{MAX_LINE, Parsed, parse};
use crate::worker::Worker;

/// What all connections of one port share.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) port: u16,
    pub(crate) port_text: HeaderValue,
    /// `http` or `https`.
    pub(crate) proto: HeaderValue,
    /// Whether it is one of the two default ports, whose routes name no port.
    pub(crate) is_default: bool,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

impl Listener {
    pub(crate) fn match_port(&self) -> u16 {
        if self.is_default { routes::DEFAULT_PORT } else { self.port }
    }
}

/// Who is at the other end.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) listener: Arc<Listener>,
    pub(crate) ip: HeaderValue,
}

impl Peer {
    fn new(listener: &Arc<Listener>, addr: SocketAddr) -> Self {
        let ip = HeaderValue::from_str(&addr.ip().to_canonical().to_string());
        let ip = ip.unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { listener: listener.clone(), ip }
    }
}

/// A connection's phase and age, and the orders it gets.
#[derive(Debug)]
pub(crate) struct State {
    /// Requests whose responses have not ended.
    in_flight: AtomicU32,
    /// Whether the client began something it has not finished: handshake or head.
    reading: AtomicBool,
    /// HTTP/2 frames come at any time and say nothing about heads.
    multiplexed: AtomicBool,
    /// When it became idle or began to read.
    since: AtomicU64,
    /// Finish what is in flight, then close.
    drain: Notify,
    /// Close now.
    abort: Notify,
}

impl State {
    pub(crate) fn new(now: Tick) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            reading: AtomicBool::new(true),
            multiplexed: AtomicBool::new(false),
            since: AtomicU64::new(now),
            drain: Notify::new(),
            abort: Notify::new(),
        }
    }

    /// No new requests after those in flight.
    pub(crate) fn drain(&self) {
        self.drain.notify_one();
    }

    /// Closes a connection that has no request: what a drain does with those that never began one.
    pub(crate) fn close_unless_busy(&self) {
        if self.in_flight.load(Ordering::Relaxed) == 0 {
            self.abort.notify_one();
        }
    }

    /// Closes a connection that was too slow with a head (`max_head`), or idle for too long.
    pub(crate) fn enforce(&self, now: Tick, max_head: u64, max_idle: u64) {
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return;
        }
        let age = now.saturating_sub(self.since.load(Ordering::Relaxed));
        let reading = self.reading.load(Ordering::Relaxed);
        if reading && age > max_head || age > max_idle + max_head {
            self.abort.notify_one();
        } else if !reading && age > max_idle {
            self.drain.notify_one();
        }
    }

    fn bytes_came(&self, worker: &Worker) {
        if self.in_flight.load(Ordering::Relaxed) == 0
            && !self.multiplexed.load(Ordering::Relaxed)
            && !self.reading.swap(true, Ordering::Relaxed)
        {
            self.since.store(worker.now(), Ordering::Relaxed);
        }
    }
}

/// Marks a connection as busy while a response is under way.
#[derive(Debug)]
pub(crate) struct Busy {
    state: Arc<State>,
    worker: Arc<Worker>,
}

impl Busy {
    fn new(state: &Arc<State>, worker: &Arc<Worker>) -> Self {
        state.in_flight.fetch_add(1, Ordering::Relaxed);
        state.reading.store(false, Ordering::Relaxed);
        Self { state: state.clone(), worker: worker.clone() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.state.since.store(self.worker.now(), Ordering::Relaxed);
        self.state.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    listener: Arc<Listener>,
    state: Arc<State>,
    stream: TcpStream,
    addr: SocketAddr,
) {
    let ended = tokio::select! {
        ended = talk(&worker, &listener, &state, stream, addr) => ended,
        () = state.abort.notified() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%addr, %error, "client connection ended early");
    }
}

async fn talk(
    worker: &Arc<Worker>,
    listener: &Arc<Listener>,
    state: &Arc<State>,
    mut stream: TcpStream,
    addr: SocketAddr,
) -> io::Result<()> {
    let (addr, rest) = match worker.shared.proxy_protocol {
        true => proxied(&mut stream, addr).await?,
        false => (addr, Bytes::new()),
    };
    let watched = Watched { stream, rest, state: state.clone(), worker: worker.clone() };
    let session = Session { worker, state, peer: Arc::new(Peer::new(listener, addr)) };
    let Some(tls) = &listener.tls else { return session.http1(watched).await };
    let stream = TlsAcceptor::from(tls.clone()).accept(watched).await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        session.http2(stream).await
    } else {
        session.http1(stream).await
    }
}

/// Reads a PROXY line if there is one: the client's address, and what was read beyond the line.
async fn proxied(stream: &mut TcpStream, addr: SocketAddr) -> io::Result<(SocketAddr, Bytes)> {
    let mut bytes = BytesMut::with_capacity(MAX_LINE);
    loop {
        match parse(&bytes) {
            Parsed::Absent => return Ok((addr, bytes.freeze())),
            Parsed::Malformed => return Err(io::Error::other("malformed PROXY line")),
            Parsed::Line { source, length } => {
                bytes.advance(length);
                return Ok((source, bytes.freeze()));
            }
            Parsed::Partial => {}
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A connection whose protocol is known.
struct Session<'a> {
    worker: &'a Arc<Worker>,
    state: &'a Arc<State>,
    peer: Arc<Peer>,
}

impl Session<'_> {
    async fn http1<S>(&self, stream: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = hyper::server::conn::http1::Builder::new()
            .title_case_headers(true)
            .header_read_timeout(None)
            .max_header_size(self.worker.shared.limits.head_bytes)
            .serve_connection(TokioIo::new(stream), service_fn(|request| self.answer(request)));
        let mut connection = pin!(connection.with_upgrades());
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended.map_err(io::Error::other),
                () = self.state.drain.notified() => connection.as_mut().graceful_shutdown(),
            }
        }
    }

    async fn http2<S>(&self, stream: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.state.multiplexed.store(true, Ordering::Relaxed);
        self.state.reading.store(false, Ordering::Relaxed);
        let (worker, state, peer) = (self.worker.clone(), self.state.clone(), self.peer.clone());
        let service = service_fn(move |request| {
            let (worker, state, peer) = (worker.clone(), state.clone(), peer.clone());
            async move { Session { worker: &worker, state: &state, peer }.answer(request).await }
        });
        let head = u32::try_from(self.worker.shared.limits.head_bytes).unwrap_or(u32::MAX);
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .max_header_list_size(head)
            .max_concurrent_streams(MAX_STREAMS)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended.map_err(io::Error::other),
                () = self.state.drain.notified() => connection.as_mut().graceful_shutdown(),
            }
        }
    }

    async fn answer(
        &self,
        request: ::http::Request<Incoming>,
    ) -> Result<::http::Response<http::ReplyBody>, Infallible> {
        let busy = Busy::new(self.state, self.worker);
        let response = http::serve(self.worker, &self.peer, request).await;
        Ok(response.map(|body| body.busy(busy)))
    }
}

/// Requests at one time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// The client's stream: what was read with the PROXY line comes first, and arriving bytes begin a
/// head.
struct Watched {
    stream: TcpStream,
    rest: Bytes,
    state: Arc<State>,
    worker: Arc<Worker>,
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            let length = this.rest.len().min(buffer.remaining());
            buffer.put_slice(&this.rest.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if read.is_ready() {
            this.state.bytes_came(&this.worker);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
