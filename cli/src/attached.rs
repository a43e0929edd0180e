//! A job this command has attached to: its output here, this process's input and signals there, until
//! it ends. Used by `run` and by the commands that run a database's own tools.

mod input;

use std::io::Write;
use std::time::Duration;

use controller_api::NewJob;
use host_api::frame::{ClientFrame, ServerFrame, Stream};
use host_api::{Attachment, FrameReader, FrameWriter};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::connection::{Controller, Path};
use crate::context::Context;
use crate::failure::{Failure, Outcome};

pub(crate) use input::Source;
use kit_terminal::Raw;

/// How long a job has after SIGINT or SIGTERM until it is killed.
const KILL_AFTER: Duration = Duration::from_secs(10);
/// How long a killed job may take to be gone.
const GONE_AFTER: Duration = Duration::from_secs(15);
/// How long a frame may take to leave once the job is being ended.
const LEAVE: Duration = Duration::from_secs(5);

const SIGKILL: u32 = 9;
const SIGWINCH: u32 = 28;

/// Where the job's input comes from and its standard output goes.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) input: Source,
    /// None: this process's own.
    pub(crate) output: Option<std::fs::File>,
}

/// Whether a terminal is at both ends.
pub(crate) fn is_interactive() -> bool {
    kit_terminal::is_there()
}

/// Gives the job a terminal like the one here.
pub(crate) fn with_terminal(mut job: NewJob, term: Option<&str>) -> NewJob {
    job.tty = true;
    if let Some((lines, columns)) = kit_terminal::size() {
        (job.tty_lines, job.tty_columns) = (lines, columns);
        job.env.insert("LINES".to_owned(), lines.to_string());
        job.env.insert("COLUMNS".to_owned(), columns.to_string());
    }
    if let Some(term) = term {
        job.env.insert("TERM".to_owned(), term.to_owned());
    }
    job
}

/// Runs a job of the app to its end; its exit status becomes this command's.
pub(crate) async fn run(
    controller: &Controller,
    app: &str,
    job: &NewJob,
    ends: Ends,
    context: &mut Context<'_>,
) -> Outcome {
    let connection = controller
        .upgrade(Path::of(&["apps", app, "jobs"]), job, host_api::UPGRADE_PROTOCOL)
        .await?;
    let signals = Signals::take()?;
    let raw = if job.tty { Some(Raw::enter().map_err(terminal_failed)?) } else { None };
    let (reader, writer) = Attachment::over(connection).split();
    let writer = Mutex::new(writer);
    let ended = {
        let mut file = ends.output;
        let stdout: &mut dyn Write = match &mut file {
            Some(file) => file,
            None => &mut *context.streams.out,
        };
        let outputs = outputs(reader, stdout, context.streams.err);
        let inputs = input::pass(ends.input, job.tty, &writer);
        let signals = signals.pass(&writer);
        tokio::select! {
            ended = outputs => ended.map(Some),
            () = signals => Ok(None),
            never = inputs => match never {},
        }
    };
    drop(raw);
    match ended? {
        // Who ended the job knows.
        _ if was_ended_here() => Ok(()),
        Some(0) | None => Ok(()),
        Some(status) => Err(Failure::Status(u8::try_from(status).unwrap_or(u8::MAX))),
    }
}

fn terminal_failed(source: std::io::Error) -> Failure {
    Failure::Io { what: "could not use the terminal".to_owned(), source }
}

/// Prints until the job ends; gives its exit status.
async fn outputs(
    mut reader: FrameReader,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<u32, Failure> {
    loop {
        match reader.next_frame().await {
            Ok(Some(ServerFrame::Data(Stream::Stdout, bytes))) => write(stdout, &bytes)?,
            Ok(Some(ServerFrame::Data(Stream::Stderr | Stream::Init, bytes))) => {
                write(stderr, &bytes)?;
            }
            Ok(Some(ServerFrame::Exit(status))) => return Ok(status),
            Ok(Some(ServerFrame::Error(text))) => return Err(Failure::said(text)),
            Ok(None) => {
                return Err(Failure::said("the connection to the job ended before the job did"));
            }
            Err(error) => return Err(Failure::said(format!("the connection broke: {error}"))),
        }
    }
}

fn write(stream: &mut dyn Write, bytes: &[u8]) -> Outcome {
    stream.write_all(bytes).and_then(|()| stream.flush()).map_err(|source| {
        if source.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::Status(1);
        }
        Failure::Io { what: "could not write the output".to_owned(), source }
    })
}

static TAKEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
static ENDED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Whether SIGINT and SIGTERM are a job's now, and must not end this process.
pub fn signals_are_taken() -> bool {
    TAKEN.load(std::sync::atomic::Ordering::SeqCst)
}

fn was_ended_here() -> bool {
    ENDED.load(std::sync::atomic::Ordering::SeqCst)
}

/// The process's SIGINT and SIGTERM, which are the job's from now on.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn take() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed =
            |source| Failure::Io { what: "could not listen to signals".to_owned(), source };
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        TAKEN.store(true, std::sync::atomic::Ordering::SeqCst);
        Ok(Self { interrupt, terminate })
    }

    /// Passes the first one on, kills a job that does not mind it, and gives up on one that stays.
    async fn pass(mut self, writer: &Mutex<FrameWriter>) {
        let number = tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        };
        ENDED.store(true, std::sync::atomic::Ordering::SeqCst);
        send(writer, number).await;
        sleep(KILL_AFTER).await;
        send(writer, SIGKILL).await;
        sleep(GONE_AFTER).await;
    }
}

/// A connection that takes no signal any more is reported by its reading side.
async fn send(writer: &Mutex<FrameWriter>, signal: u32) {
    let sent = async { writer.lock().await.send(&ClientFrame::Signal(signal)).await };
    if let Ok(Err(error)) = timeout(LEAVE, sent).await {
        tracing::debug!(%error, signal, "signal not sent");
    }
}
