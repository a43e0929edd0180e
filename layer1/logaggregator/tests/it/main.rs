//! An aggregator over its real sockets: the captured run of spec/platform.md §9, followers, bad input,
//! several aggregators.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod captured;
mod follow;
mod intake;
mod peers;

use std::net::SocketAddr;
use std::time::Duration;

use kit_tasks::{Running, Tasks};
use logaggregator::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start() -> Running {
    logaggregator::start(Config::alone(), &Tasks::root("test")).await.unwrap()
}

fn http(running: &Running) -> SocketAddr {
    running.addrs[0]
}

fn syslog(running: &Running) -> SocketAddr {
    running.addrs[1]
}

/// One message: time of the day's minute 03:04, PROCID, MSGID, number, text.
fn message(
    host: &str,
    second: &str,
    proc_id: &str,
    msg_id: &str,
    seq: u64,
    text: &[u8],
) -> Vec<u8> {
    let head = format!(
        "<190>1 2026-01-02T03:04:{second}Z {host} app1 {proc_id} {msg_id} [flynn seq=\"{seq}\"]"
    );
    if text.is_empty() { head.into_bytes() } else { [head.as_bytes(), b" ", text].concat() }
}

fn framed(message: &[u8]) -> Vec<u8> {
    [format!("{} ", message.len()).as_bytes(), message].concat()
}

async fn send(addr: SocketAddr, frames: &[Vec<u8>]) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    for frame in frames {
        stream.write_all(frame).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    // The aggregator closes when it has read all: then everything is in its memory.
    let mut nothing = Vec::new();
    stream.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty(), "an aggregator says nothing on a syslog connection");
}

/// The answer's head (lower-case) and body, chunks undone.
async fn get(addr: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    let is_chunked = head.contains("transfer-encoding: chunked");
    (head, if is_chunked { dechunked(body) } else { body.to_owned() })
}

fn dechunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap();
    }
    whole
}

/// The `msg` of each line of a body; "" where it has none.
fn texts(body: &str) -> Vec<String> {
    let text = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["msg"].as_str().unwrap_or_default().to_owned()
    };
    body.lines().map(text).collect()
}

/// Asks again until the answer is as wanted.
async fn until(addr: SocketAddr, path: &str, is_wanted: impl Fn(&str) -> bool) -> String {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, body) = get(addr, path).await;
        if is_wanted(&body) {
            return body;
        }
        assert!(tokio::time::Instant::now() < deadline, "{path} stays {body}");
        tokio::task::yield_now().await;
    }
}
