//! Attaching to a job with a log: its lines come from the log files, history and live alike, so that none
//! is lost or seen twice however slow the client is.

use std::io;

use bytes::Bytes;
use host_api::frame::{ClientFrame, ServerFrame, Stream};
use host_api::{AttachFlags, Offsets};
use host_container::protocol::{ClientFrame as SupervisorInput, Order};
use tokio::sync::watch;

use super::attach::{Attach, Input, Output};
use crate::gates::OnItsWay;
use crate::host::app_of;
use crate::logs::{LogReader, Message, Start};
use crate::registry::{Phase, Record};
use crate::supervisor::{FrameWriter, Supervisor, order};

impl Attach {
    pub(super) async fn logged(
        &self,
        record: &Record,
        on_its_way: OnItsWay,
        input: &mut Input,
        output: &mut Output,
    ) -> io::Result<()> {
        let flags = self.wanted.flags;
        let app = app_of(&record.active.job);
        let logs = &self.host.logs;
        let mut written = logs.follow(app.as_ref());
        let had = self.wanted.offsets;
        let from_start = flags.has(AttachFlags::LOGS) || had.is_some();
        let start = if from_start { Start::History } else { Start::Now };
        let reader = LogReader::open(logs.dir(), app.as_ref(), &self.job, start)?;
        let was_live = !record.active.status.has_ended();
        let phase = self.host.registry.phase(&self.job).await;
        let stdin = self.stdin(record, flags).await;
        output.attached().await?;
        drop(on_its_way);
        // Without history the live lines are all there is to ask for, whatever the follow flag says.
        let follows = was_live && (flags.has(AttachFlags::STREAM) || !flags.has(AttachFlags::LOGS));
        let lines = Lines { reader, had: had.unwrap_or_default() };
        let lines = self.lines(lines, phase.filter(|_| follows), &mut written, output);
        let gone = async {
            self.inputs(stdin, input).await;
            if !input.is_closed() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            lines = lines => lines?,
            () = gone => return Ok(()),
        }
        // A client that returns was promised the job's end.
        let has_end = (was_live || had.is_some()) && flags.has(AttachFlags::STREAM);
        let last = if has_end { self.last_frame().await } else { None };
        match last {
            Some(last) => output.frame(&last).await,
            None => self.end_of_streams(output).await,
        }
    }

    /// Sends lines: what is there, and with a phase to watch what comes until the job is cleaned up.
    async fn lines(
        &self,
        mut lines: Lines,
        mut phase: Option<watch::Receiver<Phase>>,
        written: &mut watch::Receiver<u64>,
        output: &mut Output,
    ) -> io::Result<()> {
        loop {
            // Looked at before reading, so that the last lines are read after the job's end.
            let over = phase.as_ref().is_none_or(|phase| *phase.borrow() >= Phase::Cleaned);
            written.mark_unchanged();
            let batch = lines.reader.next_batch()?;
            let is_empty = batch.is_empty();
            for message in batch.into_iter().filter(|message| self.wants(message.stream)) {
                let line = lines.still_wanted(&message);
                if !line.is_empty() {
                    output.frame(&ServerFrame::Data(message.stream, line)).await?;
                }
            }
            if !is_empty {
                continue;
            }
            let Some(phase) = phase.as_mut().filter(|_| !over) else { return Ok(()) };
            tokio::select! {
                changed = written.changed() => changed.map_err(io::Error::other)?,
                _ = phase.wait_for(|phase| *phase >= Phase::Cleaned) => {}
            }
        }
    }

    /// A connection for standard input, for jobs that have one.
    async fn stdin(&self, record: &Record, flags: AttachFlags) -> Option<FrameWriter> {
        if !(record.active.job.config.stdin && flags.has(AttachFlags::STDIN)) {
            return None;
        }
        let Supervisor { reader, writer } =
            Supervisor::connect(&self.host.job_dir(&self.job)).ok()?;
        self.host.tasks.spawn_until_stop("attach input", drain(reader));
        Some(writer)
    }

    /// Passes on what the client sends until it sends what it must not. The output goes on.
    async fn inputs(&self, mut stdin: Option<FrameWriter>, input: &mut Input) {
        while let Some(frame) = input.next_frame().await {
            let passed = match frame {
                ClientFrame::Stdin(bytes) => match &mut stdin {
                    Some(writer) => pass_stdin(writer, &bytes).await,
                    None => Err(io::ErrorKind::Unsupported.into()),
                },
                ClientFrame::Signal(number) => self.pass_signal(number).await,
                ClientFrame::Resize { .. } => Err(io::ErrorKind::Unsupported.into()),
            };
            if passed.is_err() {
                break;
            }
        }
        if let Some(writer) = &mut stdin {
            // The job may have ended, and its input with it.
            drop(writer.send(&SupervisorInput::StdinEnd).await);
        }
    }

    pub(super) async fn pass_signal(&self, number: u32) -> io::Result<()> {
        let signal = i32::try_from(number).map_err(io::Error::other)?;
        let sent = order(&self.host.job_dir(&self.job), Order::Signal { signal }).await;
        sent.map_err(io::Error::other)
    }
}

/// A job's lines without what a returning client has had.
struct Lines {
    reader: LogReader,
    had: Offsets,
}

impl Lines {
    /// The line with its newline, without its part that the client has.
    fn still_wanted(&mut self, message: &Message) -> Bytes {
        let mut line = message.body.to_vec();
        line.push(b'\n');
        let had = match message.stream {
            Stream::Stdout => &mut self.had.stdout,
            Stream::Stderr => &mut self.had.stderr,
            Stream::Init => &mut self.had.init,
        };
        let skipped = line.len().min(usize::try_from(*had).unwrap_or(usize::MAX));
        *had -= skipped as u64;
        Bytes::from(line).slice(skipped..)
    }
}

/// Data for the program's standard input; none is its end.
pub(super) async fn pass_stdin(writer: &mut FrameWriter, bytes: &Bytes) -> io::Result<()> {
    if bytes.is_empty() {
        return writer.send(&SupervisorInput::StdinEnd).await;
    }
    writer.send(&SupervisorInput::Stdin(bytes.to_vec())).await
}

/// What a supervisor says on a connection that is for input only.
pub(super) async fn drain(mut reader: crate::supervisor::FrameReader) {
    while let Ok(Some(_)) = reader.next_frame().await {}
}
