//! Listening sockets: one per worker and port, shared by SO_REUSEPORT, and ports that are only kept
//! from others.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

const KEEPALIVE: Duration = Duration::from_secs(30);

/// A port that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("error binding to port (check if another service is listening on {addr})")]
pub(crate) struct BindError {
    /// Where.
    pub(crate) addr: SocketAddr,
    /// Why.
    #[source]
    pub(crate) source: io::Error,
}

/// As many listeners on one address as there are workers; port 0 becomes the same free port for all.
pub(crate) fn listeners(addr: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, BindError> {
    let first = listener(addr)?;
    let bound = first.local_addr().map_err(|source| BindError { addr, source })?;
    let mut all = vec![first];
    for _ in 1..workers {
        all.push(listener(bound)?);
    }
    Ok(all)
}

/// One listener, not blocking.
pub(crate) fn listener(addr: SocketAddr) -> Result<TcpListener, BindError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = unbound(addr)?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(|source| BindError { addr, source })
}

/// Keeps a port from other programs without listening on it: clients are refused at once. Without
/// SO_REUSEADDR, which would let anybody have a port that nobody listens on.
pub(crate) fn reserve(addr: SocketAddr) -> Result<Socket, BindError> {
    let bind = || -> io::Result<Socket> {
        let socket = unbound(addr)?;
        socket.bind(&addr.into())?;
        Ok(socket)
    };
    bind().map_err(|source| BindError { addr, source })
}

fn unbound(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Ends a connection whose other side takes nothing for so long; by itself the kernel tries again for a
/// quarter of an hour (tcp(7)).
pub(crate) fn give_up_after(silence: Duration, stream: &tokio::net::TcpStream) {
    drop(SockRef::from(stream).set_tcp_user_timeout(Some(silence)));
}

/// No delay, and probes that find a peer which is gone.
pub(crate) fn tune(stream: &tokio::net::TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    // Both fail only when the connection is gone already, which its first read will tell.
    drop(stream.set_nodelay(true));
    drop(SockRef::from(stream).set_tcp_keepalive(&keepalive));
}
