//! Jobs with a client at the other end: attached to before they exist, so that no output is missed, then
//! frames both ways until either side ends. When a host's daemon restarts, the connection to it is made
//! again behind the last byte that came; the client does not notice.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use controller_api::NewJob;
use host_api::frame::{ClientFrame, Greeting, ServerFrame, Stream};
use host_api::{
    AttachError, AttachFlags, AttachReq, Attachment, FrameReader, FrameWriter, HostClient,
};
use host_api::{Job, Offsets};
use kit_http::{ApiError, Upgraded, Upgrading};
use kit_tasks::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::failure::{Answer, Failure};
use crate::run::{NotStarted, add, from_host};

/// How long an attached job may take until its program runs: images are fetched meanwhile.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a host may take to say that it waits for the job.
const GREETING: Duration = Duration::from_secs(10);
/// How long a host may be away before its job's client is told.
const REATTACH_FOR: Duration = Duration::from_secs(60);
const REATTACH_PAUSE: Duration = Duration::from_millis(200);
/// What a terminal's client is told when the host's daemon went away: its job is being stopped.
const LOST_TERMINAL: &str = "the terminal's connection is lost and the job is being stopped";

/// A job that runs, and the connection to it.
pub(crate) struct Attached {
    host: HostClient,
    request: AttachReq,
    tty: bool,
    attachment: Attachment,
}

impl Attached {
    /// Starts the job, attached.
    pub(crate) async fn start(
        host: &HostClient,
        job: &Job,
        wanted: &NewJob,
    ) -> Result<Self, NotStarted> {
        let flags =
            AttachFlags::STDOUT | AttachFlags::STDERR | AttachFlags::STDIN | AttachFlags::STREAM;
        let request = AttachReq {
            height: wanted.tty_lines,
            width: wanted.tty_columns,
            ..AttachReq::new(&job.id, flags)
        };
        let attaching = host.attach(&request).await;
        let mut attachment =
            attaching.map_err(|error| NotStarted::Refused(from_host(&error, "attach failed")))?;
        // From the first greeting on the job waits for us.
        let greeting = timeout(GREETING, attachment.greeting()).await;
        let late = |_| ApiError::service_unavailable("attach failed: the host did not answer");
        let greeting = greeting.map_err(|elapsed| NotStarted::Refused(late(elapsed).into()))?;
        let greeting = greeting.map_err(|error| NotStarted::Refused(refused(error)))?;
        add(host, job).await?;
        let attachment = match greeting {
            Greeting::Attached => attachment,
            Greeting::Waiting | Greeting::Refused => established(host, job, attachment).await?,
        };
        Ok(Self { host: host.clone(), request, tty: job.config.tty, attachment })
    }

    /// Passes frames both ways, in a task, once the client's connection is there.
    pub(crate) fn relay(self, tasks: &Tasks, upgrading: Upgrading) {
        tasks.spawn_until_stop("attached-job", async move {
            match upgrading.connection().await {
                Ok(client) => self.pass(client).await,
                Err(error) => tracing::info!(%error, "client of an attached job went away"),
            }
        });
    }

    async fn pass(self, client: Upgraded) {
        let Self { host, request, tty, attachment } = self;
        let (reader, writer) = tokio::io::split(client);
        let mut input = Input { reader, buffer: BytesMut::new(), pending: None };
        let mut output = Output { writer, offsets: Offsets::default() };
        let mut attachment = attachment;
        loop {
            let (mut from, mut to) = attachment.split();
            let end = tokio::select! {
                end = output.follow(&mut from) => end,
                () = input.follow(&mut to) => End::Over,
            };
            let reason = match end {
                End::Over => break,
                End::Broken if tty => LOST_TERMINAL.to_owned(),
                End::Broken => match again(&host, &request, output.offsets).await {
                    Ok(anew) => {
                        attachment = anew;
                        continue;
                    }
                    Err(error) => format!("the host of the job cannot be reached: {error}"),
                },
            };
            // A client that left does not want to know.
            drop(output.send(&ServerFrame::Error(reason)).await);
            break;
        }
        drop(output.writer.shutdown().await);
    }
}

async fn established(host: &HostClient, job: &Job, attachment: Attachment) -> Answer<Attachment> {
    match timeout(ATTACH_TIMEOUT, attachment.established()).await {
        Ok(attached) => attached.map_err(refused),
        Err(_) => {
            if let Err(error) = host.stop_job(&job.id).await {
                tracing::info!(%error, job = %job.id, "a job that did not start was not stopped");
            }
            Err(ApiError::service_unavailable("the job did not start in time").into())
        }
    }
}

fn refused(error: AttachError) -> Failure {
    match error {
        AttachError::Refused(text) => ApiError::conflict(format!("attach failed: {text}")).into(),
        error @ (AttachError::Greeting(_) | AttachError::Frame(_) | AttachError::Connection(_)) => {
            tracing::warn!(%error, "attach failed");
            ApiError::service_unavailable("attach failed: the host's connection broke").into()
        }
    }
}

/// Attaches behind what came already. A host that is not up yet, or has not noticed that the old
/// connection is gone, is tried again.
async fn again(
    host: &HostClient,
    request: &AttachReq,
    offsets: Offsets,
) -> Result<Attachment, String> {
    let request = AttachReq {
        flags: request.flags | AttachFlags::LOGS,
        offsets: Some(offsets),
        ..request.clone()
    };
    let give_up = Instant::now() + REATTACH_FOR;
    loop {
        let once = async {
            let attachment = host.attach(&request).await.map_err(|error| error.to_string())?;
            attachment.established().await.map_err(|error| error.to_string())
        };
        let error = match timeout_at(give_up, once).await {
            Ok(Ok(attachment)) => return Ok(attachment),
            Ok(Err(error)) => error,
            Err(_) => return Err("it did not answer in time".to_owned()),
        };
        if Instant::now() + REATTACH_PAUSE >= give_up {
            return Err(error);
        }
        sleep(REATTACH_PAUSE).await;
    }
}

/// How passing frames ended.
enum End {
    /// The job or the client is done.
    Over,
    /// The host's connection ended before the job did.
    Broken,
}

/// What the client gets.
struct Output {
    writer: WriteHalf<Upgraded>,
    /// How much of each stream it got.
    offsets: Offsets,
}

impl Output {
    async fn follow(&mut self, from: &mut FrameReader) -> End {
        let mut is_ending = false;
        loop {
            let frame = match from.next_frame().await {
                Ok(Some(frame)) => frame,
                Ok(None) if is_ending => return End::Over,
                Ok(None) | Err(_) => return End::Broken,
            };
            if self.send(&frame).await.is_err() {
                return End::Over;
            }
            match frame {
                ServerFrame::Data(_, bytes) if bytes.is_empty() => is_ending = true,
                ServerFrame::Data(stream, bytes) => self.count(stream, bytes.len()),
                ServerFrame::Exit(_) | ServerFrame::Error(_) => return End::Over,
            }
        }
    }

    fn count(&mut self, stream: Stream, bytes: usize) {
        *match stream {
            Stream::Stdout => &mut self.offsets.stdout,
            Stream::Stderr => &mut self.offsets.stderr,
            Stream::Init => &mut self.offsets.init,
        } += bytes as u64;
    }

    async fn send(&mut self, frame: &ServerFrame) -> io::Result<()> {
        self.writer.write_all(&frame.encode()).await?;
        self.writer.flush().await
    }
}

/// What the client sends.
struct Input {
    reader: ReadHalf<Upgraded>,
    buffer: BytesMut,
    /// A frame that may not have reached the host.
    pending: Option<ClientFrame>,
}

impl Input {
    /// Ends when the client leaves. Safe to drop and call again with another connection.
    async fn follow(&mut self, to: &mut FrameWriter) {
        loop {
            if self.pending.is_none() {
                self.pending = match ClientFrame::decode(&mut self.buffer) {
                    Ok(Some(frame)) => Some(frame),
                    Ok(None) if self.read().await => continue,
                    Ok(None) => return,
                    Err(_) => return self.senseless(to).await,
                };
            }
            if let Some(frame) = &self.pending {
                if to.send(frame).await.is_err() {
                    // The other direction finds out what became of the host.
                    return std::future::pending().await;
                }
                self.pending = None;
            }
        }
    }

    /// False once the client has left.
    async fn read(&mut self) -> bool {
        matches!(self.reader.read_buf(&mut self.buffer).await, Ok(count) if count > 0)
    }

    /// Nothing can be understood from here on: the job's input ends, its output goes on.
    async fn senseless(&mut self, to: &mut FrameWriter) {
        drop(to.send(&ClientFrame::Stdin(Bytes::new())).await);
        let mut waste = BytesMut::new();
        while matches!(self.reader.read_buf(&mut waste).await, Ok(count) if count > 0) {
            waste.clear();
        }
    }
}
