//! How the client's connections come about: names to addresses, addresses to sockets, sockets to TLS.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The TCP keep-alive of all connections.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What [`Resolve::resolve`] gives: None leaves the name to the next resolver.
pub type Resolved<'a> =
    Pin<Box<dyn Future<Output = io::Result<Option<Vec<SocketAddr>>>> + Send + 'a>>;

/// A source of addresses other than the system's, such as discoverd.
pub trait Resolve: Send + Sync + fmt::Debug {
    /// Addresses of `host`, where this resolver knows such names; `port` is the URL's, or its scheme's.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolved<'a>;
}

/// Where connections go.
#[derive(Clone, Debug)]
pub(super) enum Dial {
    Unix(PathBuf),
    Tcp { resolver: Option<Arc<dyn Resolve>>, timeout: Duration },
}

/// Makes connections for the pool.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    dial: Arc<Dial>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// For the unix connect and the TLS handshake each; TCP connects have it per address.
    timeout: Duration,
}

/// TLS takes several round trips and a certificate check, on machines that may be busy.
const HANDSHAKE_FACTOR: u32 = 10;

impl Connector {
    pub(super) fn new(
        dial: Dial,
        tls: Option<Arc<rustls::ClientConfig>>,
        timeout: Duration,
    ) -> Self {
        Self { dial: Arc::new(dial), tls, timeout }
    }

    async fn connect(self, url: Uri) -> io::Result<Socket> {
        let is_tls = url.scheme_str() == Some("https");
        let host = url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream: Box<dyn Io> = match &*self.dial {
            Dial::Unix(path) => {
                Box::new(within(self.timeout, "connect", UnixStream::connect(path)).await?)
            }
            Dial::Tcp { resolver, timeout } => {
                let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
                let addrs = resolve(resolver.as_deref(), host, port, *timeout).await?;
                Box::new(dial_first(host, &addrs, *timeout).await?)
            }
        };
        if is_tls { self.handshake(host, stream).await } else { Ok(Socket::new(stream)) }
    }

    async fn handshake(&self, host: &str, stream: Box<dyn Io>) -> io::Result<Socket> {
        let config = self.tls.clone().ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "this client was given no TLS settings")
        })?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let handshake = tokio_rustls::TlsConnector::from(config).connect(name, stream);
        let stream = within(self.timeout * HANDSHAKE_FACTOR, "TLS handshake", handshake).await?;
        Ok(Socket::new(Box::new(stream)))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Socket;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        Box::pin(self.clone().connect(url))
    }
}

/// Addresses of a host: literally, `localhost` without asking anybody (RFC 6761), the given resolver, the
/// system.
async fn resolve(
    resolver: Option<&dyn Resolve>,
    host: &str,
    port: u16,
    timeout: Duration,
) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if is_localhost(host) {
        return Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]);
    }
    // Name look-ups ask several servers in turn, each with a wait of its own.
    let patience = timeout * 10;
    if let Some(resolver) = resolver
        && let Some(addrs) = within(patience, "name look-up", resolver.resolve(host, port)).await?
    {
        return Ok(addrs);
    }
    let found = within(patience, "name look-up", tokio::net::lookup_host((host, port))).await?;
    Ok(found.collect())
}

fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

async fn dial_first(host: &str, addrs: &[SocketAddr], timeout: Duration) -> io::Result<TcpStream> {
    let none =
        || io::Error::new(io::ErrorKind::NotFound, format!("no address is known for {host}"));
    let mut last = None;
    for addr in addrs {
        match within(timeout, "connect", TcpStream::connect(addr)).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                let keepalive =
                    socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
                socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                return Ok(stream);
            }
            Err(error) => last = Some(io::Error::new(error.kind(), format!("{addr}: {error}"))),
        }
    }
    Err(last.unwrap_or_else(none))
}

async fn within<T>(
    timeout: Duration,
    what: &str,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
        let text = format!("{what} timed out after {timeout:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection of any kind.
pub(super) struct Socket(TokioIo<Box<dyn Io>>);

impl Socket {
    fn new(stream: Box<dyn Io>) -> Self {
        Self(TokioIo::new(stream))
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
