//! Following a job from its supervisor's first word to its end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host_api::frame::Stream;
use host_container::protocol::{
    ExitRecord, HttpsCheck, Notice, Order, State, StateReport, Stream as SupervisorStream,
    SupervisorFrame,
};
use host_job::Event;
use kit_ids::JobId;

use super::pump::Pump;
use super::{https, kept, stop};
use crate::host::{Host, is_direct};
use crate::store::StoreError;
use crate::supervisor::{Supervisor, order};

/// How long a program waits for its attachers. One that hangs must not keep the job from running.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(30);

/// What is known of a job that is followed.
struct Followed<'a> {
    host: &'a Arc<Host>,
    job: &'a JobId,
    /// None for jobs whose output goes to their attacher.
    pump: Option<Pump>,
    waits_for_attachers: bool,
    resumed: bool,
    exit: Option<ExitRecord>,
}

/// Follows a job with a live supervisor to its end.
pub(super) async fn follow(host: &Arc<Host>, job: &JobId, supervisor: Supervisor) -> Event {
    let pump = pump_of(host, job).await;
    let mut followed =
        Followed { host, job, pump, waits_for_attachers: false, resumed: false, exit: None };
    if let Err(error) = followed.run(supervisor).await {
        tracing::warn!(%job, %error, "connection to the supervisor broke");
    }
    let Followed { mut pump, exit, .. } = followed;
    let exit = match exit {
        Some(exit) => Some(exit),
        None => left_behind(host, job, &mut pump).await,
    };
    if let Some(pump) = &mut pump {
        pump.finish(host);
    }
    note_start(host, job, exit.as_ref()).await;
    event_of(exit)
}

/// A program that ran is told of as started, also when it ended before anybody saw it run.
async fn note_start(host: &Host, job: &JobId, exit: Option<&ExitRecord>) {
    if exit.is_none_or(|exit| exit.state != State::Exited) {
        return;
    }
    if let Err(error) = host.registry.apply(job, Event::Started).await {
        tracing::error!(%job, %error, "start not noted");
    }
}

/// Takes note of a job whose supervisor was gone when the daemon came.
pub(super) async fn over(host: &Arc<Host>, job: &JobId, record: Option<ExitRecord>) -> Event {
    let mut pump = pump_of(host, job).await;
    drain(host, job, &mut pump);
    if let Some(pump) = &mut pump {
        pump.finish(host);
    }
    note_start(host, job, record.as_ref()).await;
    event_of(record)
}

impl Followed<'_> {
    async fn run(&mut self, supervisor: Supervisor) -> io::Result<()> {
        let Supervisor { mut reader, mut writer } = supervisor;
        if let Some(pump) = &self.pump {
            let [stdout, stderr, init] = pump.offsets().map(Some);
            writer.order(Order::OpenOutput { stdout, stderr, init }).await?;
        }
        while self.exit.is_none() {
            let frame = tokio::select! {
                frame = reader.next_frame() => frame?,
                () = attachers(self.host, self.job), if self.waits_for_attachers => {
                    self.waits_for_attachers = false;
                    self.resumed = true;
                    writer.order(Order::Resume).await?;
                    continue;
                }
            };
            match frame {
                Some(frame) => self.handle(frame).await,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn handle(&mut self, frame: SupervisorFrame) {
        match frame {
            SupervisorFrame::Output { stream, offset, bytes } => {
                if let Some(pump) = &mut self.pump {
                    pump.push(self.host, wire_stream(stream), offset, &bytes);
                }
            }
            SupervisorFrame::Notice(Notice::State(report)) => self.state(*report).await,
            SupervisorFrame::Notice(Notice::Dropped { stream, bytes, .. }) => {
                self.note(&format!(
                    "{bytes} bytes of {} were dropped: nobody read them in time",
                    stream.name()
                ));
            }
            // The job's own init log says so already.
            SupervisorFrame::Notice(Notice::OutOfMemory { used, limit, .. }) => {
                let mib = |bytes: u64| bytes >> 20;
                let text = format!("OOM: used {} MB of {} MB", mib(used), mib(limit));
                tracing::warn!(job = %self.job, "{text}");
            }
            SupervisorFrame::Notice(Notice::Reply { error: Some(error), .. }) => {
                tracing::warn!(job = %self.job, %error, "supervisor refused an order");
            }
            SupervisorFrame::Notice(Notice::ServiceUp { service, addr }) => {
                tracing::info!(job = %self.job, %service, %addr, "service up");
            }
            SupervisorFrame::Notice(Notice::ServiceDown { service, addr, reason }) => {
                tracing::info!(job = %self.job, %service, %addr, %reason, "service down");
            }
            SupervisorFrame::Notice(Notice::HttpsCheck(check)) => self.check_later(check),
            SupervisorFrame::Notice(
                Notice::EndOfStream { .. } | Notice::Reply { error: None, .. },
            ) => {}
        }
    }

    /// Answers the supervisor once the service has, or has not.
    fn check_later(&self, check: HttpsCheck) {
        let dir = self.host.job_dir(self.job);
        self.host.tasks.spawn_until_stop("https check", async move {
            let healthy = https::is_healthy(&check).await;
            let result = Order::HttpsResult { check: check.check, healthy };
            if let Err(error) = order(&dir, result).await {
                tracing::debug!(addr = %check.addr, %error, "result of a check not told");
            }
        });
    }

    async fn state(&mut self, report: StateReport) {
        match report.state {
            State::Initial => {}
            State::Ready if self.resumed => {}
            State::Ready => {
                self.host.registry.ready(self.job).await;
                self.waits_for_attachers = true;
            }
            State::Running => self.running(report.pid).await,
            State::Exited | State::Failed => self.exit = report.exit,
        }
    }

    /// Notes the start, in a task of its own where that does not work at once: the job's output goes on.
    async fn running(&self, pid: Option<u32>) {
        if let Err(error) = keep_start(self.host, self.job, pid).await {
            tracing::error!(job = %self.job, %error, "start not noted yet");
            let (host, job) = (self.host.clone(), self.job.clone());
            self.host.tasks.spawn_until_stop("note a start", async move {
                kept(&job, || keep_start(&host, &job, pid)).await;
            });
        }
    }

    fn note(&mut self, text: &str) {
        if let Some(pump) = &mut self.pump {
            pump.note(self.host, text);
        }
    }
}

async fn keep_start(host: &Arc<Host>, job: &JobId, pid: Option<u32>) -> Result<(), StoreError> {
    host.registry.update(job, |active| active.pid = pid).await?;
    host.registry.apply(job, Event::Started).await?;
    // Asked for while it started, or by a daemon that did not come to it.
    if host.registry.get(job).await?.is_some_and(|record| record.active.force_stop) {
        stop::end_later(host, job);
    }
    Ok(())
}

/// Waits, not for ever, until the job's attachers are through.
async fn attachers(host: &Host, job: &JobId) {
    if tokio::time::timeout(ATTACH_TIMEOUT, host.gates.all_through(job)).await.is_err() {
        tracing::warn!(%job, "an attacher took too long; the program starts without it");
    }
}

async fn pump_of(host: &Arc<Host>, job: &JobId) -> Option<Pump> {
    let record = host.registry.get(job).await.ok().flatten()?;
    (!is_direct(&record.active.job)).then(|| Pump::resume(host, host.origin(&record.active.job)))
}

/// The supervisor is gone without a word: what it left on disk.
async fn left_behind(host: &Arc<Host>, job: &JobId, pump: &mut Option<Pump>) -> Option<ExitRecord> {
    drain(host, job, pump);
    read_exit(&host.job_dir(job))
}

/// A record of the job's end, if there is one that can be read.
pub(super) fn read_exit(job_dir: &Path) -> Option<ExitRecord> {
    host_container::client::read_exit(job_dir).unwrap_or_else(|error| {
        tracing::warn!(dir = %job_dir.display(), %error, "record of a job's end cannot be read");
        None
    })
}

/// Logs what a supervisor left in its spool.
fn drain(host: &Host, job: &JobId, pump: &mut Option<Pump>) {
    let Some(pump) = pump else { return };
    for stream in SupervisorStream::ALL {
        let at = usize::from(stream.number()) - 1;
        let mut offset = pump.offsets()[at];
        let Ok(spool) = host_container::Spool::open(&host.job_dir(job), stream) else { continue };
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(found) = spool.read(offset, &mut chunk) {
            if found.count == 0 {
                break;
            }
            pump.push(host, wire_stream(stream), found.offset, &chunk[..found.count]);
            offset = found.offset + found.count as u64;
        }
    }
}

pub(crate) fn wire_stream(stream: SupervisorStream) -> Stream {
    match stream {
        SupervisorStream::Stdout => Stream::Stdout,
        SupervisorStream::Stderr => Stream::Stderr,
        SupervisorStream::Init => Stream::Init,
    }
}

fn event_of(exit: Option<ExitRecord>) -> Event {
    match exit {
        None => Event::Failed { reason: "host: the job's supervisor was lost".to_owned() },
        Some(exit) => match exit.state {
            State::Exited => Event::Exited { status: exit.exit_status() },
            State::Failed | State::Initial | State::Ready | State::Running => {
                Event::Failed { reason: exit.error.unwrap_or_else(|| "unknown failure".to_owned()) }
            }
        },
    }
}
