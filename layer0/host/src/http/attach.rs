//! Attaching to a job (spec/host.md §6): the greeting, then frames both ways. Jobs with a log are read
//! from it ([`super::logged`]); terminals and jobs without one from their supervisor
//! ([`super::direct`]).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use host_api::frame::{ClientFrame, FrameError, Greeting, ServerFrame, Stream};
use host_api::{AttachFlags, AttachReq, JobStatus, UPGRADE_PROTOCOL};
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use kit_http::{Upgraded, Upgrading, accept_upgrade};
use kit_ids::JobId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::gates::OnItsWay;
use crate::host::{Host, is_direct};
use crate::registry::{Phase, Record};

/// Largest body of an attach request.
const MAX_BODY: usize = 64 * 1024;
/// How long a client may take to read one frame before it counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) async fn attach(State(host): State<Arc<Host>>, mut request: Request) -> Response {
    let body = std::mem::take(request.body_mut());
    let body =
        Limited::new(body, MAX_BODY).collect().await.map(http_body_util::Collected::to_bytes);
    let parsed = body.ok().and_then(|body| serde_json::from_slice::<AttachReq>(&body).ok());
    let wanted = parsed.and_then(|wanted| Some((wanted.job_id.parse::<JobId>().ok()?, wanted)));
    let Some((job, wanted)) = wanted else {
        return (StatusCode::BAD_REQUEST, "invalid JSON\n").into_response();
    };
    let (response, upgrading) = accept_upgrade(&mut request, UPGRADE_PROTOCOL);
    let attach = Attach { host: host.clone(), job, wanted };
    host.tasks.spawn_until_stop("attach", attach.run(upgrading));
    response
}

/// One attach connection.
pub(super) struct Attach {
    pub(super) host: Arc<Host>,
    pub(super) job: JobId,
    pub(super) wanted: AttachReq,
}

/// What the greeting found.
enum Found {
    /// A job to attach to; its program waits while the token lives.
    Job(Box<Record>, OnItsWay),
    /// A refusal.
    Refused(String),
    /// The client left while it waited.
    Left,
}

impl Attach {
    async fn run(self, upgrading: Upgrading) {
        let connection = match upgrading.connection().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(job = %self.job, %error, "attach connection was not made");
                return;
            }
        };
        let (reader, writer) = tokio::io::split(connection);
        let (mut input, mut output) =
            (Input { reader, buffer: BytesMut::new(), closed: false }, Output { writer });
        let served = self.serve(&mut input, &mut output).await;
        if let Err(error) = served {
            tracing::debug!(job = %self.job, %error, "attach connection broke");
        }
        // Whoever reads to the end of the connection must see one.
        drop(output.writer.shutdown().await);
    }

    async fn serve(&self, input: &mut Input, output: &mut Output) -> std::io::Result<()> {
        let (record, on_its_way) = match self.find(input, output).await? {
            Found::Job(record, on_its_way) => (record, on_its_way),
            Found::Refused(reason) => return output.refuse(&reason).await,
            Found::Left => return Ok(()),
        };
        if record.active.status == JobStatus::Failed {
            let reason =
                record.active.error.clone().unwrap_or_else(|| "unknown failure".to_owned());
            return output.refuse(&reason).await;
        }
        if is_direct(&record.active.job) {
            self.direct(&record, on_its_way, input, output).await
        } else {
            self.logged(&record, on_its_way, input, output).await
        }
    }

    /// The job once it is there and has a supervisor to ask. A job that is known already is attached at
    /// once; one that is not yet is waited for, and its program waits for us.
    async fn find(&self, input: &mut Input, output: &mut Output) -> std::io::Result<Found> {
        let Some(on_its_way) = self.host.gates.enter(&self.job) else {
            return Ok(Found::Refused("host: too many attachers are waiting".to_owned()));
        };
        let registry = &self.host.registry;
        if let Some(record) = self.known().await {
            let starts = record.active.status == JobStatus::Starting;
            if !(starts && is_direct(&record.active.job)) {
                return Ok(Found::Job(Box::new(record), on_its_way));
            }
        }
        output.write(&[Greeting::Waiting.byte()]).await?;
        let mut changes = registry.changes();
        loop {
            if let Some(phase) = registry.phase(&self.job).await {
                let mut phase = phase;
                let ready = async { drop(phase.wait_for(|phase| *phase >= Phase::Ready).await) };
                if !input.unless_closed(ready).await {
                    return Ok(Found::Left);
                }
                return Ok(match self.known().await {
                    Some(record) => Found::Job(Box::new(record), on_its_way),
                    None => Found::Refused("host: unknown job".to_owned()),
                });
            }
            let added = async { drop(changes.changed().await) };
            if !input.unless_closed(added).await {
                return Ok(Found::Left);
            }
        }
    }

    /// The job as it is now, if it is listed.
    pub(super) async fn known(&self) -> Option<Record> {
        self.host.registry.phase(&self.job).await?;
        self.host.registry.get(&self.job).await.ok().flatten()
    }

    pub(super) fn wants(&self, stream: Stream) -> bool {
        self.wanted.flags.has(match stream {
            Stream::Stdout => AttachFlags::STDOUT,
            Stream::Stderr => AttachFlags::STDERR,
            Stream::Init => AttachFlags::INIT_LOG,
        })
    }

    /// Waits for the job's clean-up and says how it ended.
    pub(super) async fn last_frame(&self) -> Option<ServerFrame> {
        let mut phase = self.host.registry.phase(&self.job).await?;
        drop(phase.wait_for(|phase| *phase >= Phase::Cleaned).await);
        let active = self.host.registry.get(&self.job).await.ok().flatten()?.active;
        Some(match active.exit_status {
            Some(status) => ServerFrame::Exit(status.cast_unsigned()),
            None => {
                ServerFrame::Error(active.error.unwrap_or_else(|| "unknown failure".to_owned()))
            }
        })
    }

    /// The ends of stdout and stderr, as far as they were asked for.
    pub(super) async fn end_of_streams(&self, output: &mut Output) -> std::io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if self.wants(stream) {
                output.frame(&ServerFrame::Data(stream, bytes::Bytes::new())).await?;
            }
        }
        Ok(())
    }
}

/// What the client sends.
pub(super) struct Input {
    reader: ReadHalf<Upgraded>,
    buffer: BytesMut,
    closed: bool,
}

impl Input {
    /// The next frame; none when the client sent its last. Safe to drop and call again.
    pub(super) async fn next_frame(&mut self) -> Option<ClientFrame> {
        loop {
            match ClientFrame::decode(&mut self.buffer) {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(
                    FrameError::UnknownType(_)
                    | FrameError::UnknownStream(_)
                    | FrameError::TooLarge(_),
                ) => {
                    return None;
                }
            }
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => {
                    self.closed = true;
                    return None;
                }
                Ok(_) => {}
            }
        }
    }

    /// Whether the client is gone, rather than having sent what it must not.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Waits, and says whether the client was still there then. What it sends early is kept.
    async fn unless_closed(&mut self, wait: impl Future<Output = ()>) -> bool {
        tokio::pin!(wait);
        loop {
            // A client that sends more than fits before it is attached is no client of ours.
            if self.buffer.len() > MAX_BODY {
                return false;
            }
            tokio::select! {
                () = &mut wait => return true,
                read = self.reader.read_buf(&mut self.buffer) => match read {
                    Ok(0) | Err(_) => return false,
                    Ok(_) => {}
                },
            }
        }
    }
}

/// What the client gets.
pub(super) struct Output {
    writer: WriteHalf<Upgraded>,
}

impl Output {
    pub(super) async fn attached(&mut self) -> std::io::Result<()> {
        self.write(&[Greeting::Attached.byte()]).await
    }

    pub(super) async fn frame(&mut self, frame: &ServerFrame) -> std::io::Result<()> {
        self.write(&frame.encode()).await
    }

    /// In place of the greeting; the bytes are those of an error frame.
    pub(super) async fn refuse(&mut self, reason: &str) -> std::io::Result<()> {
        self.frame(&ServerFrame::Error(reason.to_owned())).await
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let written = async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        };
        let timed = tokio::time::timeout(WRITE_TIMEOUT, written).await;
        timed.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }
}
