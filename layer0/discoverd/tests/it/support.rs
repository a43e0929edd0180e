//! Servers to test against, and a client that shows every byte.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use discoverd::{Config, Deps};
use discoverd_api::{Client, Servers};
use kit_clock::{Clock, Mono, Wall};
use kit_tasks::{Running, Tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No wait of a test is longer; a machine that runs eight builds may need much of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    patiently(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A running server.
pub(crate) struct Server {
    pub(crate) tasks: Tasks,
    pub(crate) running: Running,
    pub(crate) client: Client,
}

pub(crate) fn config(dir: &Path) -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Config { expiry_interval: Duration::from_millis(5), ..Config::new(dir, any, "127.0.0.1") }
}

impl Server {
    pub(crate) async fn start(config: Config) -> Self {
        let deps = Deps::default();
        Self::start_with(config, deps).await
    }

    /// Starts one that leads and has registered itself, so that nothing else moves its index.
    pub(crate) async fn start_with(config: Config, deps: Deps) -> Self {
        let server = Self::start_anyhow(config, deps).await;
        until("the registration of the server itself", async || {
            !server.client.instances("discoverd").await.unwrap_or_default().is_empty()
        })
        .await;
        server
    }

    pub(crate) async fn start_anyhow(config: Config, deps: Deps) -> Self {
        let tasks = Tasks::root("test");
        let running = discoverd::start_with(config, deps, &tasks).await.unwrap();
        let client = Client::new(&Servers::parse(&running.addr().to_string())).unwrap();
        Self { tasks, running, client }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.running.addr()
    }

    pub(crate) async fn stop(self) {
        self.tasks.shutdown(PATIENCE).await;
    }

    /// Sends a request with a JSON body and gives the whole answer.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        ask(self.addr(), method, path, "Content-Type: application/json\r\n", body).await
    }
}

/// An answer, byte for byte but for the date.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn index(&self) -> u64 {
        self.header("discoverd-index").unwrap().parse().unwrap()
    }
}

pub(crate) async fn ask(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    patiently("an answer", try_ask(addr, method, path, headers, body)).await.unwrap()
}

/// [`ask`] of a server that may be gone.
pub(crate) async fn try_ask(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> io::Result<Answer> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut whole = String::new();
    stream.read_to_string(&mut whole).await?;
    let (head, body) = whole.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Answer { status, head: head.replace("\r\n", "\n"), body: body.to_owned() })
}

/// A clock that moves when it is told to.
#[derive(Debug, Default)]
pub(crate) struct HandClock {
    nanos: AtomicU64,
}

impl HandClock {
    pub(crate) fn advance(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap();
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn mono(&self) -> Mono {
        Mono::from_origin(Duration::from_nanos(self.nanos.load(Ordering::SeqCst)))
    }

    fn wall(&self) -> Wall {
        Wall::from_epoch(Duration::from_secs(1_795_235_098))
    }
}
