//! The sockets of DNS: one loop for UDP, one for TCP, both on the same port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Message;
use kit_backoff::Backoff;
use kit_tasks::Tasks;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::answer::{self, Outcome, Transport};
use super::forward::forward;
use super::zone::Zone;
use crate::config::DnsConfig;
use crate::server::StartError;

/// Questions that may be with recursors at one time; further ones are refused, so that a recursor that
/// is away does not collect work without end.
const FORWARDS: usize = 512;
/// TCP connections at one time.
const CONNECTIONS: usize = 256;
/// How long a TCP connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// The longest question over UDP.
const QUESTION: usize = 4096;
/// The length of a message's head; nothing shorter is one.
const HEAD: usize = 12;

#[derive(Clone, Debug)]
struct Server {
    zone: Zone,
    recursors: Arc<Vec<SocketAddr>>,
    forwards: Arc<Semaphore>,
}

/// Starts both loops; gives the address listened on.
pub(crate) async fn start(
    tasks: &Tasks,
    config: &DnsConfig,
    zone: Zone,
) -> Result<SocketAddr, StartError> {
    let (udp, tcp) =
        bind(config.listen).map_err(|source| StartError::Listen { addr: config.listen, source })?;
    let addr = udp.local_addr();
    let addr = addr.map_err(|source| StartError::Listen { addr: config.listen, source })?;
    let forwards = Arc::new(Semaphore::new(FORWARDS));
    let server = Server { zone, recursors: Arc::new(config.recursors.clone()), forwards };
    let tasks = tasks.child("dns");
    tasks.spawn_until_stop("udp", serve_udp(tasks.clone(), server.clone(), udp));
    tasks.spawn_until_stop("tcp", serve_tcp(tasks.clone(), server, tcp));
    Ok(addr)
}

/// How often a free port is looked for that both protocols have.
const PORT_TRIES: usize = 20;

/// The same port for both. Port 0 takes one that is free for TCP and tries it for UDP.
fn bind(addr: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..if addr.port() == 0 { PORT_TRIES } else { 1 } {
        let tcp = socket(addr, Type::STREAM, Protocol::TCP)?;
        tcp.listen(128)?;
        let tcp = TcpListener::from_std(tcp.into())?;
        match socket(tcp.local_addr()?, Type::DGRAM, Protocol::UDP) {
            Ok(udp) => return Ok((UdpSocket::from_std(udp.into())?, tcp)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// With SO_REUSEPORT, so that a new server can take over from an old one without a gap.
fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_reuse_port(addr.port() != 0)?;
    socket.set_reuse_address(kind == Type::STREAM)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

async fn serve_udp(tasks: Tasks, server: Server, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; QUESTION];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error of an earlier answer; the socket itself is fine.
                tracing::debug!(%error, "DNS question could not be received");
                continue;
            }
        };
        match server.know(&buffer[..length], Transport::Udp) {
            Some(Known::Answer(answer)) => reply(&socket, &answer, peer).await,
            Some(Known::Forward(asked)) => {
                let (server, socket) = (server.clone(), Arc::clone(&socket));
                let question = buffer[..length].to_vec();
                tasks.spawn_until_stop("forward", async move {
                    let answer = server.ask_others(&asked, &question, Transport::Udp).await;
                    reply(&socket, &answer, peer).await;
                });
            }
            None => {}
        }
    }
}

async fn reply(socket: &UdpSocket, answer: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(answer, peer).await {
        tracing::debug!(%peer, %error, "DNS answer could not be sent");
    }
}

async fn serve_tcp(tasks: Tasks, server: Server, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut pauses = Backoff::new(Duration::from_millis(5), Duration::from_secs(1), rand::random());
    // A semaphore that is never closed gives a permit.
    while let Ok(permit) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                pauses.reset();
                let server = server.clone();
                tasks.spawn_until_stop("connection", async move {
                    if let Err(error) = server.converse(stream).await {
                        tracing::debug!(%peer, %error, "DNS connection ended early");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "DNS connection could not be accepted");
                tokio::time::sleep(pauses.next_delay()).await;
            }
        }
    }
}

/// What this server makes of a question.
enum Known {
    Answer(Vec<u8>),
    Forward(Box<Message>),
}

impl Server {
    /// The questions of one TCP connection, one after the other.
    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let length = match tokio::time::timeout(SILENCE, stream.read_u16()).await? {
                Ok(length) => usize::from(length),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut question = vec![0; length];
            tokio::time::timeout(SILENCE, stream.read_exact(&mut question)).await??;
            let answer = match self.know(&question, Transport::Tcp) {
                Some(Known::Answer(answer)) => answer,
                Some(Known::Forward(asked)) => {
                    self.ask_others(&asked, &question, Transport::Tcp).await
                }
                None => return Ok(()),
            };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend(answer);
            tokio::time::timeout(SILENCE, stream.write_all(&framed)).await??;
        }
    }

    /// None for what is no question: it gets no answer.
    fn know(&self, question: &[u8], transport: Transport) -> Option<Known> {
        if question.len() < HEAD {
            return None;
        }
        let asked = Message::from_vec(question)
            .inspect_err(|error| tracing::debug!(%error, "unreadable DNS question"))
            .ok()?;
        match answer::answer(&self.zone, &asked, transport, !self.recursors.is_empty()) {
            Outcome::Known(answer) => Some(Known::Answer(encode(&answer, &asked))),
            Outcome::Elsewhere => Some(Known::Forward(Box::new(asked))),
        }
    }

    async fn ask_others(&self, asked: &Message, question: &[u8], transport: Transport) -> Vec<u8> {
        let recursion = !self.recursors.is_empty();
        if let Ok(_permit) = self.forwards.try_acquire()
            && let Some(answer) = forward(&self.recursors, question, transport).await
        {
            return answer;
        }
        encode(&answer::server_failure(asked, recursion), asked)
    }
}

/// The bytes of an answer; where it has none, those of a failure.
fn encode(answer: &Message, asked: &Message) -> Vec<u8> {
    answer.to_vec().unwrap_or_else(|error| {
        tracing::error!(%error, "DNS answer cannot be written");
        answer::server_failure(asked, false).to_vec().unwrap_or_default()
    })
}
