//! Attaching to a terminal or to a job without a log: output comes straight from the supervisor, from
//! the offsets a returning client names, and after the job's end from what the supervisor left.

use std::io;

use bytes::Bytes;
use host_api::AttachFlags;
use host_api::frame::{ClientFrame, ServerFrame, Stream};
use host_container::protocol::{
    ClientFrame as SupervisorInput, Notice, Order, Stream as SupervisorStream, SupervisorFrame,
};

use super::attach::{Attach, Input, Output};
use super::logged::pass_stdin;
use crate::gates::OnItsWay;
use crate::registry::Record;
use crate::runner;
use crate::supervisor::{FrameReader, FrameWriter, Supervisor, order};

impl Attach {
    pub(super) async fn direct(
        &self,
        record: &Record,
        on_its_way: OnItsWay,
        input: &mut Input,
        output: &mut Output,
    ) -> io::Result<()> {
        let Some(_only) = self.host.gates.exclusive(&self.job) else {
            return output.refuse("host: job is attached").await;
        };
        let config = &record.active.job.config;
        let supervisor = match Supervisor::connect(&self.host.job_dir(&self.job)) {
            Ok(supervisor) if !record.active.status.has_ended() => supervisor,
            Ok(_) | Err(_) => return self.ended(config.tty, output).await,
        };
        let Supervisor { reader, mut writer } = supervisor;
        let (stdout, stderr, init) = self.offsets();
        writer.order(Order::OpenOutput { stdout, stderr, init }).await?;
        if config.tty && self.wanted.height > 0 {
            self.resize(self.wanted.height, self.wanted.width).await;
        }
        output.attached().await?;
        drop(on_its_way);
        let takes_stdin = config.stdin && self.wanted.flags.has(AttachFlags::STDIN);
        let alive = self.both_ways(config.tty, (reader, writer, takes_stdin), input, output).await;
        if config.tty && alive.is_err() {
            self.hang_up();
        }
        alive?;
        match self.last_frame().await {
            Some(last) => output.frame(&last).await,
            None => Ok(()),
        }
    }

    /// Where each stream that was asked for begins.
    fn offsets(&self) -> (Option<u64>, Option<u64>, Option<u64>) {
        let had = self.wanted.offsets.unwrap_or_default();
        let from = |stream, offset| self.wants(stream).then_some(offset);
        (
            from(Stream::Stdout, had.stdout),
            from(Stream::Stderr, had.stderr),
            from(Stream::Init, had.init),
        )
    }

    /// Output to the client and input to the job until the job ends, or a terminal's client leaves.
    async fn both_ways(
        &self,
        tty: bool,
        (mut reader, mut writer, takes_stdin): (FrameReader, FrameWriter, bool),
        input: &mut Input,
        output: &mut Output,
    ) -> io::Result<()> {
        let inputs = async {
            self.pass_inputs(&mut writer, takes_stdin, input).await;
            if !tty && !input.is_closed() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            outputs = self.outputs(&mut reader, output) => outputs,
            () = inputs => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    async fn outputs(&self, reader: &mut FrameReader, output: &mut Output) -> io::Result<()> {
        while let Some(frame) = reader.next_frame().await? {
            match frame {
                SupervisorFrame::Output { stream, bytes, .. } => {
                    let stream = runner::wire_stream(stream);
                    output.frame(&ServerFrame::Data(stream, Bytes::from(bytes))).await?;
                }
                SupervisorFrame::Notice(Notice::State(report)) if report.state.has_ended() => {
                    return Ok(());
                }
                SupervisorFrame::Notice(_) => {}
            }
        }
        Ok(())
    }

    async fn pass_inputs(&self, writer: &mut FrameWriter, takes_stdin: bool, input: &mut Input) {
        while let Some(frame) = input.next_frame().await {
            let passed = match frame {
                ClientFrame::Stdin(bytes) if takes_stdin => pass_stdin(writer, &bytes).await,
                ClientFrame::Stdin(_) => Err(io::ErrorKind::Unsupported.into()),
                ClientFrame::Signal(number) => self.pass_signal(number).await,
                ClientFrame::Resize { height, width } => {
                    self.resize(height, width).await;
                    Ok(())
                }
            };
            if passed.is_err() {
                break;
            }
        }
        if takes_stdin {
            // The job may have ended, and its input with it.
            drop(writer.send(&SupervisorInput::StdinEnd).await);
        }
    }

    async fn resize(&self, height: u16, width: u16) {
        let resized = order(&self.host.job_dir(&self.job), Order::Resize { height, width }).await;
        if let Err(error) = resized {
            tracing::debug!(job = %self.job, %error, "terminal not resized");
        }
    }

    /// A terminal whose person left is stopped.
    fn hang_up(&self) {
        let (host, job) = (self.host.clone(), self.job.clone());
        self.host.tasks.spawn_until_stop("hang up", async move {
            // It may have ended by itself.
            drop(runner::stop(&host, &job).await);
        });
    }

    /// The job is over: a returning client gets what it missed and the exit status, others only ends.
    async fn ended(&self, tty: bool, output: &mut Output) -> io::Result<()> {
        if tty || (self.wanted.offsets.is_none() && self.wanted.flags.has(AttachFlags::STDIN)) {
            return output.refuse("host: job not running").await;
        }
        output.attached().await?;
        if self.wanted.offsets.is_none() {
            return self.end_of_streams(output).await;
        }
        let (stdout, stderr, init) = self.offsets();
        for (stream, offset) in [
            (SupervisorStream::Stdout, stdout),
            (SupervisorStream::Stderr, stderr),
            (SupervisorStream::Init, init),
        ] {
            if let Some(offset) = offset {
                self.left_behind(stream, offset, output).await?;
            }
        }
        match self.last_frame().await {
            Some(last) => output.frame(&last).await,
            None => Ok(()),
        }
    }

    async fn left_behind(
        &self,
        stream: SupervisorStream,
        mut offset: u64,
        output: &mut Output,
    ) -> io::Result<()> {
        let Ok(spool) = host_container::Spool::open(&self.host.job_dir(&self.job), stream) else {
            return Ok(());
        };
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let found = spool.read(offset, &mut chunk)?;
            if found.count == 0 {
                return Ok(());
            }
            let bytes = Bytes::copy_from_slice(&chunk[..found.count]);
            output.frame(&ServerFrame::Data(runner::wire_stream(stream), bytes)).await?;
            offset = found.offset + found.count as u64;
        }
    }
}
