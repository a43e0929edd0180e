//! Questions about other names, passed on as they came to each recursor in turn.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::answer::Transport;

/// How long one recursor may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The answer of the first recursor that gives one.
pub(super) async fn forward(
    recursors: &[SocketAddr],
    question: &[u8],
    transport: Transport,
) -> Option<Vec<u8>> {
    for recursor in recursors {
        let asked = async {
            match transport {
                Transport::Udp => ask_udp(*recursor, question).await,
                Transport::Tcp => ask_tcp(*recursor, question).await,
            }
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%recursor, %error, "recursor failed"),
            Err(_) => tracing::debug!(%recursor, "recursor did not answer in time"),
        }
    }
    None
}

async fn ask_udp(recursor: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    // A fresh socket has a random port, which makes forged answers hard.
    let any: SocketAddr = match recursor {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(recursor).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if buffer[..length].starts_with(&question[..2]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(recursor: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(recursor).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_u16(length).await?;
    stream.write_all(question).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if answer.starts_with(&question[..2]) {
        Ok(answer)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the answer has another id"))
    }
}
