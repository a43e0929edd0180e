//! Constant load on a page, from a thread of its own, with every failure written down.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::node::Node;
use crate::several::in_namespace;

/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(10);
/// How long one request may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Enough for any page of a test.
const RESPONSE_MAX: u64 = 64 * 1024;

/// Requests one after the other, each on a connection of its own, until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Counted>,
}

/// What the load met.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Requests answered with 200.
    pub answered: usize,
    /// What went wrong with each of the others.
    pub failed: Vec<String>,
}

impl Load {
    /// Starts asking the host's router for this host name; the caller's thread is on the host.
    pub fn start(host: &str) -> Self {
        let (stop, run) = asking(host);
        // A new thread is in the network of the one that starts it.
        Self { stop, thread: std::thread::spawn(run) }
    }

    /// Starts asking this host's router, on this host.
    pub fn on(node: &Node, host: &str) -> anyhow::Result<Self> {
        let (stop, run) = asking(host);
        Ok(Self { stop, thread: in_namespace(node.network()?, run)? })
    }

    /// Ends the load and tells what it met.
    pub fn stop(self) -> anyhow::Result<Counted> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_panic| anyhow::anyhow!("the load did not end well"))
    }
}

/// What the thread of a load does, and what ends it.
fn asking(host: &str) -> (Arc<AtomicBool>, impl FnOnce() -> Counted + Send + use<>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, host) = (stop.clone(), host.to_owned());
    let run = move || {
        let mut counted = Counted::default();
        while !stopped.load(Ordering::Relaxed) {
            match request(&host) {
                Ok(()) => counted.answered += 1,
                Err(error) => counted.failed.push(format!("{error:#}")),
            }
            std::thread::sleep(PAUSE);
        }
        counted
    };
    (stop, run)
}

fn request(host: &str) -> anyhow::Result<()> {
    let router = SocketAddr::from(([127, 0, 0, 1], 80));
    let mut stream = TcpStream::connect_timeout(&router, PATIENCE).context("no connection")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    (&mut stream).take(RESPONSE_MAX).read_to_end(&mut answer).context("no whole answer")?;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("{}", String::from_utf8_lossy(&answer[..answer.len().min(200)]));
    }
    Ok(())
}
