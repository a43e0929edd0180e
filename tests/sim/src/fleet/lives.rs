//! The lives of a host's jobs: written, started, stopped, ended, restarted.

use std::time::Duration;

use host_job::{Change, Decision, Event as Happened, Outcome, RestartRule, Status};
use kit_ids::JobId;

use super::host::{Program, reservation};
use super::{Event, Order, World, process};

impl World {
    pub(super) fn synced(&mut self, number: usize, boot: u64, job: JobId) {
        let host = &mut self.hosts[number];
        if !host.up || host.boot != boot {
            return;
        }
        host.disk.sync();
        if self.give_address(number, &job) {
            let takes = self.stage.random.millis(20, 1500);
            self.stage.after(takes, Event::Begin { host: number, boot, job });
        } else {
            let reason = "no free address".to_owned();
            self.note_word(number, &job, Happened::Failed { reason });
        }
    }

    pub(super) fn begin(&mut self, number: usize, boot: u64, job: &JobId) {
        self.names += 1;
        let (now, program) = (self.stage.now(), self.names);
        let host = &mut self.hosts[number];
        if !host.up || host.boot != boot {
            return;
        }
        let wall = host.clock.wall(now);
        let Some(record) = host.disk.read().get(job).cloned() else {
            panic!("{job} begins, and the host does not know it");
        };
        if record.life.status != Status::Starting {
            return;
        }
        if record.life.stop_requested {
            host.tell(job, Happened::StoppedBeforeStart, wall);
            return self.ended(number, job);
        }
        let (root, process) = (record.root, record.process);
        let ip = self.link(number, job, process.as_str());
        self.stage.note(format_args!("host {number}: {job} runs, {ip}"));
        let host = &mut self.hosts[number];
        host.programs.insert(job.clone(), Program { number: program, process, root, ip });
        host.tell(job, Happened::Started, wall);
        host.check();
        self.tell_again(number, job, &Happened::Started);
    }

    /// Now and then a supervisor's word comes twice: to a daemon that has it, or that knows better.
    fn tell_again(&mut self, number: usize, job: &JobId, what: &Happened) {
        if self.stage.random.chance(30) {
            let (boot, job, what) = (self.hosts[number].boot, job.clone(), what.clone());
            let late = self.stage.random.millis(0, 20_000);
            self.stage.after(late, Event::ToldAgain { host: number, boot, job, what });
        }
    }

    pub(super) fn told_again(&mut self, number: usize, boot: u64, job: &JobId, what: Happened) {
        if self.hosts[number].up && self.hosts[number].boot == boot {
            self.note_word(number, job, what);
        }
    }

    pub(super) fn stop(&mut self, number: usize, job: &JobId) {
        let (now, takes) = (self.stage.now(), self.stage.random.millis(50, 9000));
        let host = &mut self.hosts[number];
        if !host.up || !host.disk.read().contains_key(job) {
            return;
        }
        let wall = host.clock.wall(now);
        host.tell(job, Happened::StopRequested, wall);
        host.disk.sync();
        if let Some(program) = host.programs.get(job) {
            let program = program.number;
            self.stage.after(takes, Event::ProgramEnds { host: number, program });
        }
    }

    pub(super) fn program_ends(&mut self, number: usize, program: u64) {
        let host = &mut self.hosts[number];
        let found = host.programs.iter().find(|(_, running)| running.number == program);
        let Some(job) = found.map(|(job, _)| job.clone()) else { return };
        let Some(program) = host.programs.remove(&job) else { return };
        self.had_address(&program);
        self.stage.note(format_args!("host {number}: program of {job} ends"));
        // Without a daemon its supervisor keeps the end for the next one.
        if self.hosts[number].up {
            self.saw_end(number, &job, Happened::Exited { status: 1 });
        }
    }

    pub(super) fn saw_end(&mut self, number: usize, job: &JobId, how: Happened) {
        self.tell_again(number, job, &how);
        self.note_word(number, job, how);
    }

    fn note_word(&mut self, number: usize, job: &JobId, what: Happened) {
        let host = &mut self.hosts[number];
        let wall = host.clock.wall(self.stage.now());
        match host.tell(job, what, wall) {
            Change::Stopped | Change::Failed => self.ended(number, job),
            Change::Nothing | Change::StopNoted | Change::Started => host.check(),
        }
    }

    /// Gives back what an ended job held and decides whether it is restarted.
    fn ended(&mut self, number: usize, job: &JobId) {
        let host = &mut self.hosts[number];
        host.disk.sync();
        host.ledger.release(job);
        host.check();
        self.take_address_back(number, job);
        self.decide(number, job);
    }

    pub(super) fn decide(&mut self, number: usize, job: &JobId) {
        let seed = self.stage.random.number();
        let host = &self.hosts[number];
        let Some(record) = host.disk.read().get(job) else { return };
        let ran_for = match (record.life.started_at, record.life.ended_at) {
            (Some(start), Some(end)) => end.since_epoch().saturating_sub(start.since_epoch()),
            (None, _) | (_, None) => Duration::ZERO,
        };
        let outcome = Outcome {
            resurrect: process(record.process.as_str()).resurrect,
            stop_requested: record.life.stop_requested,
            ran_for,
            quick_ends: record.quick_ends,
        };
        if let Decision::Restart { delay, quick_ends } =
            RestartRule::default().decide(outcome, seed)
        {
            let (boot, job) = (host.boot, job.clone());
            self.stage.after(delay, Event::Succeed { host: number, boot, job, quick_ends });
        }
    }

    pub(super) fn succeed(&mut self, number: usize, boot: u64, job: JobId, quick_ends: u32) {
        let successor = self.fresh_job(number);
        let host = &mut self.hosts[number];
        if !host.up || host.boot != boot || host.has_successor(&job) {
            return;
        }
        let Some(record) = host.disk.read().get(&job).cloned() else { return };
        if host.ledger.reserve(&successor, reservation(&record.process)).is_err() {
            let again = Event::Succeed { host: number, boot, job, quick_ends };
            return self.stage.after(Duration::from_secs(1), again);
        }
        let order = Order { job: successor, process: record.process };
        self.admit(number, order, Some(job), record.root, quick_ends);
    }
}
