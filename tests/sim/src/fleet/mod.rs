//! Placement and hosts: the real planner decides for hosts that admit by the real ledger, keep jobs'
//! lives by the real machine, give them addresses by the real book and restart what is theirs by the real
//! rule. Programs, disks, and the loop around the planner are models; the scheduler's own rounds are
//! simulated in its crate.
//!
//! Two schedulers, at times both at once, know nothing of each other, forget everything when they die,
//! and send orders that come late, twice or not at all. Hosts lose power, their daemons are killed while
//! programs run on, programs end.
//!
//! Promised at every moment:
//! - the programs of a host never hold more than it has;
//! - a host keeps what it acknowledged, and no restarted job runs beside its predecessor or twice;
//! - a job that ended never changes again, however late and often its end and its start are told;
//! - no two running jobs have the same address, and none has one that a job of another app had a minute before;
//! - no plan sends a job to a host that takes none, lacks its tags or has just refused its type.
//!
//! Promised two and a half minutes after the last fault, and from then on: exactly as many jobs run as are
//! wanted, and on hosts that take them; fewer only when none of those hosts has room.

mod addresses;
mod host;
mod lives;
mod power;
mod scheduler;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use host_job::Event as Happened;
use kit_ids::{AppId, HostId, JobId};
use kit_units::{Bytes, Millicpu};
use placement::{Formation, FormationKey, Process, ProcessName};

use self::host::{Host, Listed};
use self::scheduler::Scheduler;
use crate::{Model, NodeClock, Random, Stage, Storm, Trace};

/// Of the time to settle, a host's longest pause before a restart is a minute, a planner's half of one,
/// and for a minute the planner waits for a host's restart.
const STORM: Storm = Storm {
    first: Duration::from_secs(5),
    lasts: Duration::from_secs(240),
    settles: Duration::from_secs(150),
    stays: Duration::from_secs(30),
    pause: 25_000,
    slower: 1,
};

/// The types of the one app. For addresses each counts as an app of its own.
const WEB: &str = "web";
const BIG: &str = "big";
const FAST: &str = "fast";
const DB: &str = "db";
const AGENT: &str = "agent";

#[derive(Clone, Debug)]
struct Order {
    job: JobId,
    process: ProcessName,
}

#[derive(Clone, Debug)]
enum Event {
    Round {
        scheduler: usize,
        boot: u64,
    },
    Plan {
        scheduler: usize,
        boot: u64,
        round: u64,
    },
    Ask {
        scheduler: usize,
        host: usize,
        round: u64,
    },
    Jobs {
        scheduler: usize,
        host: usize,
        round: u64,
        jobs: Vec<Listed>,
    },
    Put {
        scheduler: usize,
        host: usize,
        order: Order,
    },
    Refused {
        scheduler: usize,
        host: usize,
        order: Order,
    },
    Stop {
        host: usize,
        job: JobId,
    },
    /// What a host wrote is on its disk.
    Synced {
        host: usize,
        boot: u64,
        job: JobId,
    },
    Begin {
        host: usize,
        boot: u64,
        job: JobId,
    },
    /// What a host wrote of its addresses is on its disk.
    AddressesSynced {
        host: usize,
        boot: u64,
    },
    ProgramEnds {
        host: usize,
        program: u64,
    },
    Succeed {
        host: usize,
        boot: u64,
        job: JobId,
        quick_ends: u32,
    },
    DaemonBack {
        host: usize,
        boot: u64,
    },
    /// What a supervisor told of its job comes a second time, late.
    ToldAgain {
        host: usize,
        boot: u64,
        job: JobId,
        what: Happened,
    },
    Mischief,
}

struct World {
    stage: Stage<Event>,
    hosts: Vec<Host>,
    schedulers: Vec<Scheduler>,
    wanted: BTreeMap<&'static str, u32>,
    /// Addresses that jobs had: of which app the last one was, and when it ended.
    had: BTreeMap<Ipv4Addr, (AppId, Duration)>,
    /// Names of jobs and numbers of programs.
    names: u64,
}

/// One run.
pub fn run(seed: u64, trace: &Trace) {
    World::new(seed, trace).play(STORM);
}

impl World {
    fn new(seed: u64, trace: &Trace) -> Self {
        let mut stage = Stage::new(Random::new(seed), trace);
        let random = &mut stage.random;
        let hosts = 3 + random.below(3);
        let mut world = Self {
            hosts: (0..hosts).map(|number| Host::new(number, random)).collect(),
            schedulers: (0..2).map(|_| Scheduler::new(random)).collect(),
            wanted: BTreeMap::new(),
            had: BTreeMap::new(),
            names: 0,
            stage,
        };
        world.change_wishes();
        for scheduler in 0..2 {
            world.stage.after(Duration::from_millis(100), Event::Round { scheduler, boot: 0 });
        }
        world.stage.after(Duration::from_secs(3), Event::Mischief);
        world
    }

    fn send(&mut self, from: usize, to: usize, message: &Event) {
        self.stage.send(from, to, || message.clone());
    }

    fn scheduler_node(&self, scheduler: usize) -> usize {
        self.hosts.len() + scheduler
    }

    fn fresh_job(&mut self, host: usize) -> JobId {
        self.names += 1;
        format!("host{host}-{:05}", self.names).parse().expect("a job's id")
    }

    /// Programs end, daemons are killed, somebody scales.
    fn mischief(&mut self) {
        if self.stage.is_calm() {
            return;
        }
        let host = self.stage.random.below(self.hosts.len());
        match self.stage.random.below(10) {
            0 => self.change_wishes(),
            1 => self.kill_daemon(host),
            2 => self.hosts[host].disk_full = !self.hosts[host].disk_full,
            _ => {
                let programs: Vec<u64> = self.hosts[host].program_numbers();
                if let Some(program) = programs.get(self.stage.random.below(programs.len())) {
                    self.program_ends(host, *program);
                }
            }
        }
        let pause = self.stage.random.millis(200, 9000);
        self.stage.after(pause, Event::Mischief);
    }

    fn change_wishes(&mut self) {
        for process in [WEB, BIG, FAST, DB] {
            let count = u32::try_from(self.stage.random.below(4)).unwrap_or_default();
            self.wanted.insert(process, count);
        }
        self.wanted.insert(AGENT, 1);
        self.stage.note(format_args!("wanted: {:?}", self.wanted));
    }

    fn formation(&self) -> Formation {
        let wish = |(name, count): (&&'static str, &u32)| {
            (ProcessName::from(*name), Process { count: *count, ..process(name) })
        };
        Formation { processes: self.wanted.iter().map(wish).collect(), ..Formation::default() }
    }
}

impl Model for World {
    type Event = Event;

    fn stage(&mut self) -> &mut Stage<Event> {
        &mut self.stage
    }

    /// Hosts, then schedulers.
    fn nodes(&self) -> (usize, usize) {
        let nodes = self.hosts.len() + self.schedulers.len();
        (nodes, nodes)
    }

    fn clock(&mut self, machine: usize) -> &mut NodeClock {
        let hosts = self.hosts.len();
        match self.hosts.get_mut(machine) {
            Some(host) => &mut host.clock,
            None => &mut self.schedulers[machine - hosts].clock,
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Ask { host, .. } | Event::Put { host, .. } | Event::Stop { host, .. }
                if self.hosts[host].frozen =>
            {
                self.hosts[host].waiting.push(event);
            }
            Event::Jobs { scheduler, .. } | Event::Refused { scheduler, .. }
                if self.schedulers[scheduler].frozen => {}
            Event::Round { scheduler, boot } => self.round(scheduler, boot),
            Event::Plan { scheduler, boot, round } => self.plan(scheduler, boot, round),
            Event::Ask { scheduler, host, round } => self.list(scheduler, host, round),
            Event::Jobs { scheduler, host, round, jobs } => self.hear(scheduler, host, round, jobs),
            Event::Put { scheduler, host, order } => self.put(scheduler, host, order),
            Event::Refused { scheduler, host, order } => self.refused(scheduler, host, &order),
            Event::Stop { host, job } => self.stop(host, &job),
            Event::Synced { host, boot, job } => self.synced(host, boot, job),
            Event::Begin { host, boot, job } => self.begin(host, boot, &job),
            Event::AddressesSynced { host, boot } => self.addresses_synced(host, boot),
            Event::ProgramEnds { host, program } => self.program_ends(host, program),
            Event::Succeed { host, boot, job, quick_ends } => {
                self.succeed(host, boot, job, quick_ends);
            }
            Event::DaemonBack { host, boot } => self.daemon_back(host, boot),
            Event::ToldAgain { host, boot, job, what } => self.told_again(host, boot, &job, what),
            Event::Mischief => self.mischief(),
        }
    }

    fn crash(&mut self, machine: usize) {
        match machine.checked_sub(self.hosts.len()) {
            None => self.power_cut(machine),
            Some(scheduler) => self.schedulers[scheduler].die(),
        }
    }

    fn freeze(&mut self, machine: usize) {
        match machine.checked_sub(self.hosts.len()) {
            None => self.hosts[machine].frozen = true,
            Some(scheduler) => self.schedulers[scheduler].frozen = true,
        }
    }

    fn thaw(&mut self, machine: usize) {
        match machine.checked_sub(self.hosts.len()) {
            None => self.wake(machine),
            Some(scheduler) => self.schedulers[scheduler].frozen = false,
        }
    }

    fn boot(&mut self, machine: usize) {
        let Some(scheduler) = machine.checked_sub(self.hosts.len()) else {
            return self.power_back(machine);
        };
        let found = &mut self.schedulers[scheduler];
        if !std::mem::replace(&mut found.up, true) {
            let boot = found.boot;
            self.stage.after(Duration::ZERO, Event::Round { scheduler, boot });
        }
    }

    /// One scheduler goes on; the other's time is over.
    fn calms_down(&mut self) {
        for host in &mut self.hosts {
            host.disk_full = false;
        }
        self.schedulers[1].die();
    }

    fn check_settled(&self) {
        for (name, count) in &self.wanted {
            let running: Vec<usize> = self.hosts.iter().map(|host| host.running(name)).collect();
            let wanted = *count as usize;
            let has_room = |host: &Host| host.takes(name) && host.has_room(name);
            if process(name).omni {
                for (host, running) in self.hosts.iter().zip(&running) {
                    let short = *running < wanted && !has_room(host);
                    assert!(*running == wanted || short, "{name}: {running:?}");
                }
            } else {
                let (all, full) = (running.iter().sum::<usize>(), !self.hosts.iter().any(has_room));
                assert!(
                    all == wanted || (all < wanted && full),
                    "{name}: {running:?}, not {wanted}"
                );
            }
            for (host, running) in self.hosts.iter().zip(running) {
                assert!(running == 0 || host.takes(name), "{name} on a host that does not take it");
            }
        }
    }
}

/// A type's needs.
fn process(name: &str) -> Process {
    let reservation =
        |mib, cpu| placement::Reservation { memory: Bytes::mib(mib), cpu: Millicpu(cpu) };
    let plain = Process { reservation: reservation(96, 50), ..Process::default() };
    match name {
        BIG => Process { reservation: reservation(400, 400), ..plain },
        FAST => Process { tags: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]), ..plain },
        DB => Process { resurrect: true, ..plain },
        AGENT => Process { resurrect: true, omni: true, ..plain },
        _ => plain,
    }
}

fn key() -> FormationKey {
    let id = |text: &str| text.to_owned();
    FormationKey {
        app: id("0a000000-0000-4000-8000-000000000001").parse().expect("an app's id"),
        release: id("0b000000-0000-4000-8000-000000000001").parse().expect("a release's id"),
    }
}

fn host_id(number: usize) -> HostId {
    format!("host{number}").parse().expect("a host's id")
}
