//! What users do to an app: about 200 short requests a second, on connections that stay and on new
//! ones, twenty long requests and twenty WebSockets. Every failure is written down.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// Threads of short requests, half of them with connections that stay.
const ASKERS: u64 = 10;
/// Their pause between requests.
const PAUSE: Duration = Duration::from_millis(45);
/// Long requests at a time, and WebSockets.
const LONG: u64 = 20;
/// How long any answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
const CLOSE: u8 = 0x88;

/// Runs until it is stopped, in threads that live in the starter's network namespace.
pub(super) struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Met {
    pub(super) requests: u64,
    pub(super) slow: u64,
    pub(super) messages: u64,
    /// WebSockets that were closed in order and opened again.
    pub(super) reopened: u64,
    pub(super) failed: Vec<String>,
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, slow, messages, reopened, failed } = self;
        write!(
            f,
            "{requests} requests, {slow} long ones, {messages} messages, {reopened} sockets opened \
             again, {} failed: {:#?}",
            failed.len(),
            &failed[..failed.len().min(20)]
        )
    }
}

struct Shared {
    host: String,
    started: Instant,
    stop: AtomicBool,
    requests: AtomicU64,
    slow: AtomicU64,
    messages: AtomicU64,
    reopened: AtomicU64,
    failed: Mutex<Vec<String>>,
}

impl Traffic {
    pub(super) fn start(host: &str) -> Self {
        let shared = Arc::new(Shared {
            host: host.to_owned(),
            started: Instant::now(),
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            reopened: AtomicU64::new(0),
            failed: Mutex::default(),
        });
        let mut threads = Vec::new();
        let mut run = |work: fn(&Shared) -> anyhow::Result<()>, count: u64| {
            for _ in 0..count {
                let shared = shared.clone();
                threads.push(std::thread::spawn(move || shared.repeat(work)));
            }
        };
        run(ask_again, ASKERS / 2);
        run(ask_anew, ASKERS - ASKERS / 2);
        run(ask_slowly, LONG);
        run(talk, LONG);
        Self { shared, threads }
    }

    /// Waits until everything of it has begun.
    pub(super) async fn settled(&self) {
        let begun = || {
            self.shared.requests.load(Ordering::Relaxed) > 100
                && self.shared.messages.load(Ordering::Relaxed) > LONG
        };
        while !begun() && self.shared.started.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn stop(self) -> anyhow::Result<Met> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_panic| anyhow::anyhow!("a thread of the traffic panicked"))?;
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Met {
            requests: count(&self.shared.requests),
            slow: count(&self.shared.slow),
            messages: count(&self.shared.messages),
            reopened: count(&self.shared.reopened),
            failed: std::mem::take(&mut *self.shared.failed.lock().unwrap()),
        })
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn repeat(&self, work: fn(&Self) -> anyhow::Result<()>) {
        while !self.is_over() {
            if let Err(error) = work(self) {
                let at = self.started.elapsed().as_secs_f64();
                self.failed.lock().unwrap().push(format!("at {at:.1} s: {error:#}"));
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn connect(&self) -> anyhow::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", 80)).context("no connection")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

/// One connection, as long as the router keeps it.
fn ask_again(shared: &Shared) -> anyhow::Result<()> {
    let mut connection = shared.connect()?;
    while !shared.is_over() {
        let stays = ask(shared, &mut connection, "/", "keep-alive").context("kept connection")?;
        shared.requests.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
        if !stays {
            return Ok(());
        }
    }
    Ok(())
}

fn ask_anew(shared: &Shared) -> anyhow::Result<()> {
    ask(shared, &mut shared.connect()?, "/", "close").context("new connection")?;
    shared.requests.fetch_add(1, Ordering::Relaxed);
    std::thread::sleep(PAUSE);
    Ok(())
}

fn ask_slowly(shared: &Shared) -> anyhow::Result<()> {
    ask(shared, &mut shared.connect()?, "/slow/5000", "close").context("long request")?;
    shared.slow.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Answers whether the connection stays.
fn ask(
    shared: &Shared,
    connection: &mut BufReader<TcpStream>,
    path: &str,
    keep: &str,
) -> anyhow::Result<bool> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: {keep}\r\n\r\n", shared.host);
    connection.get_mut().write_all(request.as_bytes())?;
    let head = read_head(connection)?;
    ensure!(head.starts_with("http/1.1 200"), "answered {head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.context("no length")?.trim().parse()?;
    let mut body = vec![0; length];
    connection.read_exact(&mut body).context("no whole body")?;
    ensure!(body.starts_with(b"Hello from Flynn"), "another page");
    Ok(keep == "keep-alive" && !head.contains("connection: close"))
}

/// In lower case.
fn read_head(connection: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        let read = connection.read_line(&mut head).context("no answer")?;
        ensure!(read > 0, "the connection ended before the answer: {head:?}");
        if head[before..].trim().is_empty() {
            return Ok(head.to_ascii_lowercase());
        }
    }
}

/// One WebSocket: messages that have to come back, until the app closes it in order.
fn talk(shared: &Shared) -> anyhow::Result<()> {
    let mut socket = shared.connect()?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        shared.host
    );
    socket.get_mut().write_all(request.as_bytes())?;
    let head = read_head(&mut socket).context("handshake")?;
    ensure!(head.starts_with("http/1.1 101"), "handshake answered {head}");
    ensure!(head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "wrong key: {head}");
    while !shared.is_over() {
        // An empty mask leaves the text as it is.
        let mut frame = vec![0x81, 0x80 | 5, 0, 0, 0, 0];
        frame.extend(b"hello");
        // The app may have closed the socket meanwhile, which its frame tells.
        drop(socket.get_mut().write_all(&frame));
        let mut begin = [0; 2];
        socket.read_exact(&mut begin).context("a socket ended without a word")?;
        let mut payload = vec![0; usize::from(begin[1] & 0x7f)];
        socket.read_exact(&mut payload).context("a frame was cut")?;
        match begin[0] {
            0x81 if payload == b"hello" => drop(shared.messages.fetch_add(1, Ordering::Relaxed)),
            CLOSE => {
                shared.reopened.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            other => bail!("an unexpected frame: {other:#x} {payload:?}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
