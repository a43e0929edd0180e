//! How other members are reached. Tests bring a way that can be cut.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::frame::{self, MARK, Request, Response};

/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(1);

/// Makes connections to other members.
pub trait Dial: std::fmt::Debug + Send + Sync + 'static {
    /// Connects to `host:port`.
    fn dial(&self, addr: &str) -> BoxFuture<'static, io::Result<TcpStream>>;
}

/// Straight through the machine's network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Dial for Direct {
    fn dial(&self, addr: &str) -> BoxFuture<'static, io::Result<TcpStream>> {
        let addr = addr.to_owned();
        Box::pin(async move { TcpStream::connect(addr).await })
    }
}

/// A connection that is marked as one between members.
pub(super) async fn connect(dialer: &dyn Dial, addr: &str) -> io::Result<TcpStream> {
    let mut stream = tokio::time::timeout(CONNECT, dialer.dial(addr)).await??;
    stream.set_nodelay(true)?;
    stream.write_all(&[MARK]).await?;
    Ok(stream)
}

/// Asks the member at `addr` one question on a connection of its own.
pub(super) async fn ask(
    dialer: &dyn Dial,
    addr: &str,
    request: &Request,
    patience: Duration,
) -> io::Result<Response> {
    let asked = async {
        let bytes = frame::encode(request)?;
        let mut stream = connect(dialer, addr).await?;
        frame::write(&mut stream, &bytes).await?;
        frame::read(&mut stream).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    };
    tokio::time::timeout(patience, asked).await?
}
