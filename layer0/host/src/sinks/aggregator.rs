//! One log aggregator: a connection of frames that is made again whenever it breaks, from where the
//! aggregator itself says this host's lines end. What it lost with its memory it gets again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use kit_backoff::Backoff;
use kit_http::ClientError;
use kit_ids::HostId;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Progress;
use crate::logs::{Feed, Logs, Position};

/// How long a connection and the answer of where to go on may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a batch may take to leave. A receiver that takes nothing for longer is tried afresh.
const WRITE: Duration = Duration::from_secs(10);
/// The first and the longest pause after a failure.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Where an aggregator is.
#[derive(Clone, Debug)]
pub(super) struct Aggregator {
    addr: String,
    http: String,
}

/// The configuration of such a sink.
#[derive(Debug, Deserialize)]
struct Config {
    addr: String,
    /// Ours: the base URL of its HTTP, when that is not port 80 of the same address.
    #[serde(default)]
    http: Option<String>,
}

/// One host's place in the answer to `GET /cursors`.
#[derive(Debug, Deserialize)]
struct Cursor {
    time: DateTime<Utc>,
    seq: u64,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("aggregator does not say where to go on")]
    Cursor(#[from] ClientError),
    #[error("lines cannot be read or sent")]
    Io(#[from] io::Error),
    #[error("aggregator took too long")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

impl Aggregator {
    pub(super) fn of(config: &serde_json::Value) -> Option<Self> {
        let Config { addr, http } = Config::deserialize(config).ok()?;
        let (ip, port) = addr.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        let http = http.unwrap_or_else(|| format!("http://{ip}"));
        Some(Self { addr, http })
    }

    /// Sends lines until it is dropped.
    pub(super) async fn keep_sending(
        self,
        host: HostId,
        logs: Arc<Logs>,
        progress: watch::Sender<Progress>,
    ) {
        let mut pause = Backoff::new(PAUSE, PAUSE_MAX, rand::random());
        loop {
            let Err(error) = self.connection(&host, &logs, &progress).await;
            if progress.borrow().is_live {
                pause.reset();
            }
            progress.send_modify(|progress| progress.is_live = false);
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::info!(addr = %self.addr, %error, cause, "lines wait for a log aggregator");
            tokio::time::sleep(pause.next_delay()).await;
        }
    }

    async fn connection(
        &self,
        host: &HostId,
        logs: &Arc<Logs>,
        progress: &watch::Sender<Progress>,
    ) -> Result<std::convert::Infallible, SendError> {
        let after = self.cursor(host).await?;
        let mut stream = tokio::time::timeout(CONNECT, TcpStream::connect(&self.addr)).await??;
        stream.set_nodelay(true)?;
        let mut written = logs.watch();
        let mut feed = Feed::new(logs.clone(), after);
        loop {
            let newest = *written.borrow_and_update();
            let batch = feed.next_batch()?;
            if batch.frames.is_empty() {
                progress.send_replace(Progress { is_live: true, sent: newest });
                tokio::select! {
                    changed = written.changed() => changed.map_err(io::Error::other)?,
                    ended = closed(&stream) => return Err(ended.into()),
                }
                continue;
            }
            tokio::time::timeout(WRITE, stream.write_all(&batch.frames)).await??;
            progress.send_modify(|progress| progress.sent = batch.position);
        }
    }

    /// This host's newest line there.
    async fn cursor(&self, host: &HostId) -> Result<Option<Position>, ClientError> {
        let client = kit_http::Client::builder(&self.http).connect_timeout(CONNECT);
        let client = client.request_timeout(CONNECT).build()?;
        let cursors: BTreeMap<String, Cursor> = client.get_json("/cursors").await?;
        let cursor = cursors.get(host.as_str());
        Ok(cursor.map(|cursor| Position { time: cursor.time, seq: cursor.seq }))
    }
}

/// Aggregators say nothing: what can be read is the end of the connection.
async fn closed(stream: &TcpStream) -> io::Error {
    loop {
        if let Err(error) = stream.readable().await {
            return error;
        }
        match stream.try_read(&mut [0; 256]) {
            Ok(0) => return io::ErrorKind::ConnectionReset.into(),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return error,
        }
    }
}
