//! A host: its disk, what it holds, and what it takes. See `lives` for its jobs, `addresses` for theirs, `power`
//! for its ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use host_job::{Addresses, Change, Event as Happened, Ledger, Life, Reservation};
use kit_clock::Wall;
use kit_ids::JobId;
use kit_units::{Bytes, Millicpu};
use placement::ProcessName;

use super::{Event, FAST, Order, WEB, World, process};
use crate::{Disk, NodeClock, Random};

/// What a host keeps of a job.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) process: ProcessName,
    pub(super) life: Life,
    pub(super) created: Wall,
    pub(super) quick_ends: u32,
    pub(super) predecessor: Option<JobId>,
    /// The first of its line of predecessors.
    pub(super) root: JobId,
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
pub(super) struct Program {
    pub(super) number: u64,
    pub(super) process: ProcessName,
    pub(super) root: JobId,
    pub(super) ip: Ipv4Addr,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) powered: bool,
    /// Whether its daemon runs.
    pub(super) up: bool,
    pub(super) frozen: bool,
    pub(super) waiting: Vec<Event>,
    /// Counts the daemon's lives.
    pub(super) boot: u64,
    pub(super) clock: NodeClock,
    /// Refuses whatever is new.
    pub(super) disk_full: bool,
    /// Refuses every `web`.
    picky: bool,
    pub(super) ssd: bool,
    pub(super) ledger: Ledger,
    pub(super) disk: Disk<BTreeMap<JobId, Record>>,
    pub(super) programs: BTreeMap<JobId, Program>,
    /// As its daemon has it in memory.
    pub(super) addresses: Addresses,
    pub(super) addresses_on_disk: Disk<Addresses>,
    /// What the kernel has: links of jobs, whether their daemon lives or not.
    pub(super) links: BTreeSet<JobId>,
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
            addresses: Addresses::default(),
            addresses_on_disk: Disk::default(),
            links: BTreeSet::new(),
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

    pub(super) fn jobs(&self) -> BTreeMap<JobId, Record> {
        self.disk.read().clone()
    }

    /// Tells a job's life what happened. An ended one stays as it is.
    pub(super) fn tell(&mut self, job: &JobId, what: Happened, now: Wall) -> Change {
        let mut jobs = self.jobs();
        let Some(record) = jobs.get_mut(job) else { return Change::Nothing };
        let before = record.life.clone();
        let change = record.life.handle(what, now);
        record.life.check_invariants();
        assert!(!before.status.has_ended() || record.life == before, "{job} had ended: {record:?}");
        self.disk.write(jobs);
        change
    }

    /// What the programs hold is never more than there is, and no line of jobs runs twice.
    pub(super) fn check(&self) {
        self.ledger.check_invariants();
        let held = self.programs.values().map(|program| reservation(&program.process));
        let held = held.fold((0, 0), |sum, one| (sum.0 + one.memory.0, sum.1 + one.cpu.0));
        assert!(held.0 <= capacity().memory.0 && held.1 <= capacity().cpu.0, "{held:?} are held");
        let mut roots: Vec<&JobId> = self.programs.values().map(|program| &program.root).collect();
        roots.sort();
        let twice = roots.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "a job runs beside its successor");
        // Without its daemon a program may end and its job's life not know it, never the other way round.
        let has_ended = |job: &&JobId| {
            self.disk.read().get(*job).is_some_and(|record| record.life.status.has_ended())
        };
        assert_eq!(self.programs.keys().find(has_ended), None, "a job runs that has ended");
    }
}

/// Room for two big jobs and some others: now the one, now the other runs out first.
pub(super) fn capacity() -> Reservation {
    Reservation { memory: Bytes::mib(1300), cpu: Millicpu(1100) }
}

pub(super) fn reservation(name: &ProcessName) -> Reservation {
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
    pub(super) fn admit(
        &mut self,
        number: usize,
        order: Order,
        predecessor: Option<JobId>,
        root: JobId,
        quick_ends: u32,
    ) {
        let (now, takes) = (self.stage.now(), self.stage.random.millis(1, 200));
        let host = &mut self.hosts[number];
        let Order { job, process } = order;
        let created = host.clock.wall(now);
        let life = Life::default();
        let record = Record { process, life, created, quick_ends, predecessor, root };
        self.stage.note(format_args!("host {number} takes {job}: {record:?}"));
        let mut jobs = host.jobs();
        jobs.insert(job.clone(), record);
        host.disk.write(jobs);
        let boot = host.boot;
        self.stage.after(takes, Event::Synced { host: number, boot, job });
    }
}

impl Host {
    pub(super) fn has_successor(&self, job: &JobId) -> bool {
        self.disk.read().values().any(|other| other.predecessor.as_ref() == Some(job))
    }
}
