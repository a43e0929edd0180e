//! A host: its daemon with ledger, lives and restart rule, its disk, and the programs that run.

use std::collections::BTreeMap;
use std::time::Duration;

use host_job::{
    Decision, Event as Happened, Ledger, Life, Outcome, Reservation, RestartRule, Status,
};
use kit_clock::Wall;
use kit_ids::JobId;
use kit_units::{Bytes, Millicpu};
use placement::ProcessName;

use super::{Event, FAST, Order, WEB, World, process};
use crate::{Disk, NodeClock, Random};

/// What a host keeps of a job.
#[derive(Clone, Debug)]
struct Record {
    process: ProcessName,
    life: Life,
    created: Wall,
    quick_ends: u32,
    predecessor: Option<JobId>,
    /// The first of its line of predecessors.
    root: JobId,
}

/// What a host says of a job.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) id: JobId,
    pub(super) process: ProcessName,
    pub(super) life: Life,
    pub(super) created: Wall,
    pub(super) predecessor: Option<JobId>,
}

/// A running program, which its daemon's death does not end.
#[derive(Clone, Debug)]
struct Program {
    number: u64,
    process: ProcessName,
    root: JobId,
}

#[derive(Debug)]
pub(super) struct Host {
    powered: bool,
    /// Whether its daemon runs.
    up: bool,
    pub(super) frozen: bool,
    pub(super) waiting: Vec<Event>,
    /// Counts the daemon's lives.
    boot: u64,
    pub(super) clock: NodeClock,
    /// Refuses whatever is new.
    pub(super) disk_full: bool,
    /// Refuses every `web`.
    picky: bool,
    pub(super) ssd: bool,
    ledger: Ledger,
    disk: Disk<BTreeMap<JobId, Record>>,
    programs: BTreeMap<JobId, Program>,
}

impl Host {
    /// The first has the tag and takes everything; the last may be picky.
    pub(super) fn new(number: usize, random: &mut Random) -> Self {
        Self {
            powered: true,
            up: true,
            frozen: false,
            waiting: Vec::new(),
            boot: 0,
            clock: NodeClock::new(random),
            disk_full: false,
            picky: number == 2 && random.chance(50),
            ssd: number < 2,
            ledger: Ledger::new(capacity()),
            disk: Disk::default(),
            programs: BTreeMap::new(),
        }
    }

    pub(super) fn running(&self, process: &str) -> usize {
        self.programs.values().filter(|program| program.process.as_str() == process).count()
    }

    pub(super) fn program_numbers(&self) -> Vec<u64> {
        self.programs.values().map(|program| program.number).collect()
    }

    /// Whether jobs of this type may be here for good.
    pub(super) fn takes(&self, process: &str) -> bool {
        (process != FAST || self.ssd) && (process != WEB || !self.picky)
    }

    /// Whether one more job of this type could be admitted.
    pub(super) fn has_room(&self, process: &str) -> bool {
        let (held, wanted, all) =
            (self.ledger.reserved(), reservation(&process.into()), capacity());
        held.memory.0 + wanted.memory.0 <= all.memory.0 && held.cpu.0 + wanted.cpu.0 <= all.cpu.0
    }

    fn jobs(&self) -> BTreeMap<JobId, Record> {
        self.disk.read().clone()
    }

    fn change(&mut self, job: &JobId, change: impl FnOnce(&mut Record)) {
        let mut jobs = self.jobs();
        if let Some(record) = jobs.get_mut(job) {
            change(record);
            record.life.check_invariants();
        }
        self.disk.write(jobs);
    }

    /// What the programs hold is never more than there is, and no line of jobs runs twice.
    fn check(&self) {
        self.ledger.check_invariants();
        let held = self.programs.values().map(|program| reservation(&program.process));
        let held = held.fold((0, 0), |sum, one| (sum.0 + one.memory.0, sum.1 + one.cpu.0));
        assert!(held.0 <= capacity().memory.0 && held.1 <= capacity().cpu.0, "{held:?} are held");
        let mut roots: Vec<&JobId> = self.programs.values().map(|program| &program.root).collect();
        roots.sort();
        let twice = roots.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "a job runs beside its successor");
    }
}

/// Room for two big jobs and some others: now the one, now the other runs out first.
pub(super) fn capacity() -> Reservation {
    Reservation { memory: Bytes::mib(1300), cpu: Millicpu(1100) }
}

fn reservation(name: &ProcessName) -> Reservation {
    let placement::Reservation { memory, cpu } = process(name.as_str()).reservation;
    Reservation { memory, cpu }
}

impl World {
    pub(super) fn list(&mut self, scheduler: usize, host: usize, round: u64) {
        let found = &self.hosts[host];
        if !found.up {
            return;
        }
        let listed = |(id, record): (&JobId, &Record)| Listed {
            id: id.clone(),
            process: record.process.clone(),
            life: record.life.clone(),
            created: record.created,
            predecessor: record.predecessor.clone(),
        };
        let jobs = found.disk.read().iter().map(listed).collect();
        let to = self.scheduler_node(scheduler);
        self.send(host, to, &Event::Jobs { scheduler, host, round, jobs });
    }

    /// Admits a job or refuses it.
    pub(super) fn put(&mut self, scheduler: usize, number: usize, order: Order) {
        let host = &mut self.hosts[number];
        if !host.up || host.disk.read().contains_key(&order.job) {
            return;
        }
        let refuses = host.disk_full || (host.picky && order.process.as_str() == WEB);
        let wanted = reservation(&order.process);
        if refuses || host.ledger.reserve(&order.job, wanted).is_err() {
            let to = self.scheduler_node(scheduler);
            return self.send(number, to, &Event::Refused { scheduler, host: number, order });
        }
        let root = order.job.clone();
        self.admit(number, order, None, root, 0);
    }

    /// Nothing starts before it is on the disk.
    fn admit(
        &mut self,
        number: usize,
        order: Order,
        predecessor: Option<JobId>,
        root: JobId,
        quick_ends: u32,
    ) {
        let (now, takes) = (self.agenda.now(), self.random.millis(1, 200));
        let host = &mut self.hosts[number];
        let Order { job, process } = order;
        let created = host.clock.wall(now);
        let life = Life::default();
        let record = Record { process, life, created, quick_ends, predecessor, root };
        self.trace.note(now, format_args!("host {number} takes {job}: {record:?}"));
        let mut jobs = host.jobs();
        jobs.insert(job.clone(), record);
        host.disk.write(jobs);
        let boot = host.boot;
        self.agenda.after(takes, Event::Synced { host: number, boot, job });
    }

    pub(super) fn synced(&mut self, number: usize, boot: u64, job: JobId) {
        let host = &mut self.hosts[number];
        if !host.up || host.boot != boot {
            return;
        }
        host.disk.sync();
        self.agenda.after(self.random.millis(20, 1500), Event::Begin { host: number, boot, job });
    }

    pub(super) fn begin(&mut self, number: usize, boot: u64, job: &JobId) {
        self.names += 1;
        let (now, program) = (self.agenda.now(), self.names);
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
            host.change(job, |record| {
                record.life.handle(Happened::StoppedBeforeStart, wall);
            });
            return self.ended(number, job);
        }
        let (root, process) = (record.root, record.process);
        self.trace.note(now, format_args!("host {number}: {job} runs"));
        host.programs.insert(job.clone(), Program { number: program, process, root });
        host.change(job, |record| {
            record.life.handle(Happened::Started, wall);
        });
        host.check();
    }

    pub(super) fn stop(&mut self, number: usize, job: &JobId) {
        let (now, takes) = (self.agenda.now(), self.random.millis(50, 9000));
        let host = &mut self.hosts[number];
        if !host.up || !host.disk.read().contains_key(job) {
            return;
        }
        let wall = host.clock.wall(now);
        host.change(job, |record| {
            record.life.handle(Happened::StopRequested, wall);
        });
        host.disk.sync();
        if let Some(program) = host.programs.get(job) {
            let program = program.number;
            self.agenda.after(takes, Event::ProgramEnds { host: number, program });
        }
    }

    pub(super) fn program_ends(&mut self, number: usize, program: u64) {
        let host = &mut self.hosts[number];
        let found = host.programs.iter().find(|(_, running)| running.number == program);
        let Some(job) = found.map(|(job, _)| job.clone()) else { return };
        host.programs.remove(&job);
        self.trace.note(self.agenda.now(), format_args!("host {number}: program of {job} ends"));
        // Without a daemon its supervisor keeps the end for the next one.
        if self.hosts[number].up {
            self.saw_end(number, &job, Happened::Exited { status: 1 });
        }
    }

    fn saw_end(&mut self, number: usize, job: &JobId, how: Happened) {
        let host = &mut self.hosts[number];
        let wall = host.clock.wall(self.agenda.now());
        host.change(job, |record| {
            record.life.handle(how, wall);
        });
        self.ended(number, job);
    }

    /// Gives back what an ended job held and decides whether it is restarted.
    fn ended(&mut self, number: usize, job: &JobId) {
        let host = &mut self.hosts[number];
        host.disk.sync();
        host.ledger.release(job);
        host.check();
        self.decide(number, job);
    }

    fn decide(&mut self, number: usize, job: &JobId) {
        let seed = self.random.number();
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
            self.agenda.after(delay, Event::Succeed { host: number, boot, job, quick_ends });
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
            return self.agenda.after(Duration::from_secs(1), again);
        }
        let order = Order { job: successor, process: record.process };
        self.admit(number, order, Some(job), record.root, quick_ends);
    }

    pub(super) fn kill_daemon(&mut self, number: usize) {
        let back = self.random.millis(100, 4000);
        let host = &mut self.hosts[number];
        if host.up {
            host.up = false;
            host.boot += 1;
            host.waiting.clear();
            let boot = host.boot;
            self.trace.note(self.agenda.now(), format_args!("daemon of host {number} killed"));
            self.agenda.after(back, Event::DaemonBack { host: number, boot });
        }
    }

    pub(super) fn power_cut(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        (host.up, host.powered) = (false, false);
        host.boot += 1;
        host.waiting.clear();
        host.programs.clear();
        host.disk.crash(&mut self.random);
    }

    pub(super) fn power_back(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        if !std::mem::replace(&mut host.powered, true) {
            let boot = host.boot;
            self.daemon_back(number, boot);
        }
    }

    pub(super) fn thaw(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.frozen = false;
        for event in std::mem::take(&mut host.waiting) {
            self.agenda.after(Duration::ZERO, event);
        }
    }

    /// A new daemon adopts what runs, notes what ended meanwhile, and starts again what is its own.
    pub(super) fn daemon_back(&mut self, number: usize, boot: u64) {
        let now = self.agenda.now();
        let host = &mut self.hosts[number];
        if host.up || host.boot != boot || !host.powered {
            return;
        }
        self.trace.note(now, format_args!("daemon of host {number} is back"));
        host.up = true;
        host.ledger = Ledger::new(capacity());
        let jobs = host.jobs();
        for (job, record) in jobs.iter().filter(|(_, record)| !record.life.status.has_ended()) {
            host.ledger.adopt(job, reservation(&record.process));
        }
        for (job, record) in &jobs {
            let runs = self.hosts[number].programs.contains_key(job);
            if record.life.status.has_ended() {
                if !self.hosts[number].has_successor(job) {
                    self.decide(number, job);
                }
            } else if runs {
                self.adopt(number, job);
            } else {
                let reason = "its end was seen by nobody".to_owned();
                self.saw_end(number, job, Happened::Failed { reason });
            }
        }
        let unknown = self.hosts[number].programs.keys().find(|job| !jobs.contains_key(*job));
        assert_eq!(unknown, None, "a program runs that its host does not know");
    }

    /// A program that outlived its daemon; an order to stop it is carried out again.
    fn adopt(&mut self, number: usize, job: &JobId) {
        let host = &mut self.hosts[number];
        let wall = host.clock.wall(self.agenda.now());
        host.change(job, |record| {
            record.life.handle(Happened::Started, wall);
        });
        let stops = host.disk.read().get(job).is_some_and(|record| record.life.stop_requested);
        let program = host.programs.get(job).map(|program| program.number);
        if let Some(program) = program.filter(|_| stops) {
            let takes = self.random.millis(50, 9000);
            self.agenda.after(takes, Event::ProgramEnds { host: number, program });
        }
    }
}

impl Host {
    fn has_successor(&self, job: &JobId) -> bool {
        self.disk.read().values().any(|other| other.predecessor.as_ref() == Some(job))
    }
}
