//! One run of `git receive-pack` or `git upload-pack`: the request's body in, its output out as it
//! comes, and an end in any case. When the client goes away git's whole process group is asked to end,
//! and so the hook, which stops its build job.

use std::io::{self, Write as _};
use std::process::Stdio;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use flate2::write::GzDecoder;
use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::Limits;

/// Pieces of output on their way to the client.
pub(crate) const OUTPUT_BOUND: usize = 16;
const PIECE: usize = 32 << 10;
/// Between two looks whether the last process of a group has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Most lines of git's own errors that are logged.
const MAX_LINES: usize = 50;

/// Where the output goes.
pub(crate) type Output = mpsc::Sender<io::Result<Bytes>>;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// git is content.
    Success,
    /// git is not; what there is to say stands in its output.
    Failure,
    /// The client went away, sent nonsense, or it took too long.
    Cancelled(&'static str),
}

/// Runs `command` to its end.
pub(crate) async fn run(
    mut command: Command,
    body: Input,
    output: &Output,
    limits: Limits,
    stopping: impl Future<Output = ()>,
) -> io::Result<Ending> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let ending = tokio::select! {
        ending = converse(&mut child, body, output, limits.silence) => ending,
        () = output.closed() => Ok(Ending::Cancelled("the client went away")),
        () = stopping => Ok(Ending::Cancelled("the server stops")),
        () = tokio::time::sleep(limits.request) => Ok(Ending::Cancelled("it took too long")),
    };
    match (&ending, group) {
        (Ok(Ending::Success | Ending::Failure), _) | (_, None) => {}
        (Ok(Ending::Cancelled(_)) | Err(_), Some(group)) => {
            end(group, &mut child, limits.grace).await
        }
    }
    ending
}

/// Copies both ways until git has ended.
async fn converse(
    child: &mut Child,
    body: Input,
    output: &Output,
    silence: Duration,
) -> io::Result<Ending> {
    let missing = || io::Error::other("a stream of git is missing");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let mut feeding = std::pin::pin!(feed(body, stdin, silence));
    let mut answering =
        std::pin::pin!(async { tokio::join!(drain(stdout, output), log(stderr)).0 });
    let mut is_fed = false;
    loop {
        tokio::select! {
            fed = &mut feeding, if !is_fed => match fed {
                Ok(()) => is_fed = true,
                Err(reason) => return Ok(Ending::Cancelled(reason)),
            },
            answered = &mut answering => {
                answered?;
                break;
            }
        }
    }
    let status = child.wait().await?;
    Ok(if status.success() { Ending::Success } else { Ending::Failure })
}

/// What the client sends, still to be unpacked where it is packed.
pub(crate) struct Input {
    body: axum::body::BodyDataStream,
    unzip: Option<Box<GzDecoder<Vec<u8>>>>,
    /// Unpacked already.
    first: Vec<u8>,
    /// What may still come, unpacked.
    left: u64,
}

impl Input {
    /// Reads enough of a body to know whether it is what it claims to be.
    pub(crate) async fn open(body: Body, is_gzip: bool, limits: Limits) -> Option<Self> {
        let unzip = is_gzip.then(|| Box::new(GzDecoder::new(Vec::new())));
        let left = limits.body.0;
        let mut input = Self { body: body.into_data_stream(), unzip, first: Vec::new(), left };
        if is_gzip {
            let next = timeout(limits.silence, input.next()).await;
            input.first = next.ok()?.ok()?.unwrap_or_default();
        }
        Some(input)
    }

    /// The next bytes, none at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, &'static str> {
        if !self.first.is_empty() {
            return Ok(Some(std::mem::take(&mut self.first)));
        }
        loop {
            let Some(piece) = self.body.next().await else {
                return Ok(None);
            };
            let piece = piece.map_err(|_| "the client's request broke off")?;
            let bytes = self.unpack(&piece)?;
            self.left = self.left.checked_sub(bytes.len() as u64).ok_or("the push is too large")?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    fn unpack(&mut self, piece: &[u8]) -> Result<Vec<u8>, &'static str> {
        let Some(unzip) = &mut self.unzip else { return Ok(piece.to_vec()) };
        let mut rest = piece;
        while !rest.is_empty() {
            // Small steps, so that a piece that grows a thousandfold is noticed in time.
            let (step, after) = rest.split_at(rest.len().min(4096));
            unzip
                .write_all(step)
                .and_then(|()| unzip.flush())
                .map_err(|_| "the request is not gzip")?;
            if unzip.get_ref().len() as u64 > self.left {
                return Err("the push is too large");
            }
            rest = after;
        }
        Ok(std::mem::take(unzip.get_mut()))
    }
}

async fn feed(
    mut body: Input,
    mut stdin: ChildStdin,
    silence: Duration,
) -> Result<(), &'static str> {
    loop {
        let next = timeout(silence, body.next()).await.map_err(|_| "the client fell silent")??;
        let Some(bytes) = next else { return Ok(()) };
        // git that wants no more says why in its output.
        if stdin.write_all(&bytes).await.is_err() {
            return Ok(());
        }
    }
}

async fn drain(mut stdout: ChildStdout, output: &Output) -> io::Result<()> {
    loop {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        if stdout.read_buf(&mut piece).await? == 0 {
            return Ok(());
        }
        if output.send(Ok(piece.freeze())).await.is_err() {
            return Ok(());
        }
    }
}

/// git speaks to the client through its own protocol; what it writes here is for whoever looks for a fault.
async fn log(stderr: ChildStderr) {
    let mut lines = BufReader::new(stderr.take(1 << 20)).lines();
    let mut count = 0;
    while let Ok(Some(line)) = lines.next_line().await {
        count += 1;
        if count <= MAX_LINES {
            tracing::debug!(line, "git says");
        }
    }
}

/// Asks a process group to end, waits, and ends what is left.
async fn end(group: Pid, child: &mut Child, grace: Duration) {
    // A group that has ended meanwhile is what was wanted.
    let _ = kill_process_group(group, Signal::TERM);
    let gone = async {
        drop(child.wait().await);
        while test_kill_process_group(group).is_ok() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if timeout(grace, gone).await.is_err() {
        let _ = kill_process_group(group, Signal::KILL);
        drop(timeout(grace, child.wait()).await);
    }
}
