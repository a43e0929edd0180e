//! The end of a job: killed members, drained output, removed groups, and a record that outlives us.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{DEREGISTER, DRAIN, LINGER, Supervisor, log, unix_now};
use crate::cgroup::Cgroups;
use crate::error::plain_error;
use crate::protocol::{EXIT_FILE_NAME, ExitRecord, Notice, State};
use crate::sys;

/// How long the removal of groups waits for processes that are just ending.
const REMOVE: Duration = Duration::from_secs(2);
const FATAL: &str = "FATAL: a container process was killed due to lack of available memory";

impl Supervisor {
    /// Init is gone, and with it (by its pid namespace) everybody else; without such a namespace
    /// the groups do it.
    pub(super) fn init_has_ended(&mut self) {
        if self.init_ended.is_some() {
            return;
        }
        let Some(container) = &mut self.container else { return };
        // Its last words may still be in the channel.
        let mut last_words = Vec::new();
        while let Ok(Some(message)) = container.channel.receive_now() {
            last_words.push(message);
        }
        let mut status = None;
        sys::wait_until_ended(&container.pidfd);
        while let Some(reaped) = sys::reap() {
            if reaped.pid == container.init_pid as i32 {
                status = Some((reaped.code, reaped.signal));
            }
        }
        let _ = container.cgroup.kill();
        for message in last_words {
            self.take_message(message);
        }
        self.judge(status.unwrap_or((None, None)));
        self.look_at_memory();
        self.init_ended = Some(Instant::now());
    }

    /// An init that ended without a word was killed, and the program with it.
    fn judge(&mut self, (code, signal): (Option<i32>, Option<i32>)) {
        if self.outcome.is_some() || self.failure.is_some() {
            return;
        }
        if self.state == State::Running {
            self.outcome = Some((None, signal.or(Some(libc::SIGKILL))));
        } else {
            let how = match (code, signal) {
                (_, Some(signal)) => format!("by signal {signal}"),
                (code, None) => format!("with code {}", code.unwrap_or(0)),
            };
            self.failure = Some(format!("init ended {how} before the program ran"));
        }
    }

    /// Tells of processes that the kernel killed for lack of memory since the last look.
    pub(super) fn look_at_memory(&mut self) {
        let Some(container) = &self.container else { return };
        if let Some(oom) = &container.oom {
            oom.acknowledge();
        }
        let kills = container.cgroup.oom_kills();
        if kills <= self.oom_kills {
            return;
        }
        let memory = container.cgroup.memory().unwrap_or_default();
        // By now the victim's memory may be free again: the peak is what it was killed for.
        let used = memory.peak.unwrap_or(memory.used).max(memory.used).min(self.spec.cgroup.memory);
        let limit = self.spec.cgroup.memory;
        let told = format!("{FATAL}: used {} of {limit}", rounded(used.0));
        let line = format!("lvl=crit msg={told:?} component=flynn-host\n");
        for _ in self.oom_kills..kills.min(self.oom_kills + 10) {
            self.spools[2].append(line.as_bytes());
        }
        self.oom_kills = kills;
        self.clients.notify_all(&Notice::OutOfMemory { used: used.0, limit: limit.0, kills });
    }

    /// Writes the record once the output is complete.
    pub(super) fn conclude_if_over(&mut self) {
        let Some(ended) = self.init_ended.filter(|_| self.concluded.is_none()) else { return };
        if !self.streams.are_drained() && ended.elapsed() < DRAIN {
            return;
        }
        self.streams.close_all();
        self.stop_services("the job has ended", Instant::now());
        let record = self.record();
        self.log_end(&record);
        self.remove_groups();
        if let Err(error) = write_record(&self.spec.job_dir, &record) {
            let line = format!("the exit record cannot be written: {}", plain_error(&error));
            log(&mut self.spools[2], "error", &line);
        }
        self.change_state(record.state);
        self.exit = Some(record);
        self.concluded = Some(Instant::now());
    }

    /// Whether nothing keeps the supervisor any more.
    pub(super) fn is_done(&self) -> bool {
        let Some(concluded) = self.concluded else { return false };
        let services = self.services.is_quiet() || concluded.elapsed() >= DEREGISTER;
        services && (self.clients.all_told(Instant::now()) || concluded.elapsed() >= LINGER)
    }

    fn record(&self) -> ExitRecord {
        let (code, signal) = self.outcome.unwrap_or((None, None));
        let state = if self.failure.is_some() { State::Failed } else { State::Exited };
        let memory = self.container.as_ref().and_then(|container| container.cgroup.memory());
        ExitRecord {
            job_id: self.spec.job_id.clone(),
            state,
            code,
            signal,
            oom_kills: self.oom_kills,
            memory_peak: memory.and_then(|memory| memory.peak),
            error: self.failure.clone(),
            started_at_unix_ns: self.started_at,
            ended_at_unix_ns: unix_now(),
        }
    }

    fn log_end(&mut self, record: &ExitRecord) {
        let spool = &mut self.spools[2];
        match (&record.error, record.signal) {
            (Some(error), _) => log(spool, "error", &format!("the job cannot run: {error}")),
            (None, Some(signal)) => log(spool, "info", &format!("job exited signal={signal}")),
            (None, None) => {
                log(spool, "info", &format!("job exited status={}", record.exit_status()))
            }
        }
    }

    fn remove_groups(&mut self) {
        let Some(container) = &self.container else { return };
        if let Err(error) = container.cgroup.remove(REMOVE) {
            let line = format!("control groups stay: {}", plain_error(&error));
            log(&mut self.spools[2], "warn", &line);
        }
    }
}

/// Written aside, synced, renamed, and the name synced too: it is there whole or not at all.
fn write_record(job_dir: &Path, record: &ExitRecord) -> io::Result<()> {
    let aside = job_dir.join(format!("{EXIT_FILE_NAME}.new"));
    let mut file = File::create(&aside)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()?;
    fs::rename(&aside, job_dir.join(EXIT_FILE_NAME))?;
    File::open(job_dir)?.sync_all()
}

/// Under systemd a supervisor has to leave its daemon's unit, whose processes end with it. Elsewhere
/// there is nothing to leave.
pub(super) fn leave_unit(prefix: &str, warn: impl FnOnce(&str)) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let in_unit = own.lines().any(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        matches!(parts.next(), Some("" | "name=systemd"))
            && parts.next().is_some_and(|path| path != "/")
    });
    if !in_unit {
        return;
    }
    let left =
        Cgroups::detect().and_then(|trees| trees.adopt_supervisor(prefix, std::process::id()));
    if let Err(error) = left {
        warn(&format!("staying in the daemon's control group: {}", plain_error(&error)));
    }
}

/// Whole MiB when it is at least one, so that people can compare it with a limit.
fn rounded(bytes: u64) -> kit_units::Bytes {
    const MIB: u64 = 1 << 20;
    if bytes < MIB {
        kit_units::Bytes(bytes)
    } else {
        kit_units::Bytes::mib((bytes + MIB / 2) / MIB)
    }
}
