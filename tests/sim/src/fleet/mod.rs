//! Placement and hosts: the real planner decides for hosts that admit by the real ledger, keep jobs'
//! lives by the real machine and restart what is theirs by the real rule. Programs, disks, and the loop
//! around the planner are models; the scheduler's own rounds are simulated in its crate.
//!
//! Two schedulers, at times both at once, know nothing of each other, forget everything when they die,
//! and send orders that come late, twice or not at all. Hosts lose power, their daemons are killed while
//! programs run on, programs end.
//!
//! Promised at every moment:
//! - the programs of a host never hold more than it has;
//! - a host keeps what it acknowledged, and no restarted job runs beside its predecessor or twice;
//! - no plan sends a job to a host that takes none, lacks its tags or has just refused its type.
//!
//! Promised [`SETTLES`] after the last fault: exactly as many jobs run as are wanted, and on hosts that
//! take them; fewer only when none of those hosts has room.

mod host;
mod scheduler;

use std::collections::BTreeMap;
use std::time::Duration;

use kit_ids::{HostId, JobId};
use kit_units::{Bytes, Millicpu};
use placement::{Formation, FormationKey, Process, ProcessName};

use self::host::{Host, Listed};
use self::scheduler::Scheduler;
use crate::{Agenda, Fault, Network, Random, Trace, draw_fault};

const STORM: Duration = Duration::from_secs(240);
/// How long after that exactly what is wanted runs: a host's longest pause before a restart is a minute,
/// a planner's half of one, and for a minute the planner waits for a host's restart.
pub const SETTLES: Duration = Duration::from_secs(150);

/// The types of the one app.
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
    Mischief,
    Fault,
    Undo(Fault),
    Calm,
    End,
}

struct World {
    agenda: Agenda<Event>,
    random: Random,
    network: Network,
    trace: Trace,
    hosts: Vec<Host>,
    schedulers: Vec<Scheduler>,
    wanted: BTreeMap<&'static str, u32>,
    /// Names of jobs and numbers of programs.
    names: u64,
    calm: bool,
}

/// One run.
pub fn run(seed: u64, trace: &Trace) {
    let mut world = World::new(seed, trace.clone());
    while let Some(event) = world.agenda.next_event() {
        if matches!(event, Event::End) {
            return world.check_settled();
        }
        world.handle(event);
    }
}

impl World {
    fn new(seed: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let hosts = 3 + random.below(3);
        let mut world = Self {
            agenda: Agenda::default(),
            network: Network::bad(&mut random),
            hosts: (0..hosts).map(|number| Host::new(number, &mut random)).collect(),
            schedulers: (0..2).map(|_| Scheduler::new(&mut random)).collect(),
            wanted: BTreeMap::new(),
            names: 0,
            random,
            trace,
            calm: false,
        };
        world.change_wishes();
        for scheduler in 0..2 {
            world.agenda.after(Duration::from_millis(100), Event::Round { scheduler, boot: 0 });
        }
        world.agenda.after(Duration::from_secs(3), Event::Mischief);
        world.agenda.after(Duration::from_secs(5), Event::Fault);
        world.agenda.after(STORM, Event::Calm);
        world.agenda.after(STORM + SETTLES, Event::End);
        world
    }

    fn handle(&mut self, event: Event) {
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
            Event::ProgramEnds { host, program } => self.program_ends(host, program),
            Event::Succeed { host, boot, job, quick_ends } => {
                self.succeed(host, boot, job, quick_ends);
            }
            Event::DaemonBack { host, boot } => self.daemon_back(host, boot),
            Event::Mischief => self.mischief(),
            Event::Fault => self.fault(),
            Event::Undo(fault) => self.undo(&fault),
            Event::Calm => self.storm_ends(),
            Event::End => {}
        }
    }

    fn send(&mut self, from: usize, to: usize, message: &Event) {
        for delay in self.network.send(from, to, &mut self.random) {
            self.agenda.after(delay, message.clone());
        }
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
        if self.calm {
            return;
        }
        let host = self.random.below(self.hosts.len());
        match self.random.below(10) {
            0 => self.change_wishes(),
            1 => self.kill_daemon(host),
            2 => self.hosts[host].disk_full = !self.hosts[host].disk_full,
            _ => {
                let programs: Vec<u64> = self.hosts[host].program_numbers();
                if let Some(program) = programs.get(self.random.below(programs.len())) {
                    self.program_ends(host, *program);
                }
            }
        }
        let pause = self.random.millis(200, 9000);
        self.agenda.after(pause, Event::Mischief);
    }

    fn change_wishes(&mut self) {
        for process in [WEB, BIG, FAST, DB] {
            let count = u32::try_from(self.random.below(4)).unwrap_or_default();
            self.wanted.insert(process, count);
        }
        self.wanted.insert(AGENT, 1);
        self.trace.note(self.agenda.now(), format_args!("wanted: {:?}", self.wanted));
    }

    fn formation(&self) -> Formation {
        let wish = |(name, count): (&&'static str, &u32)| {
            (ProcessName::from(*name), Process { count: *count, ..process(name) })
        };
        Formation { processes: self.wanted.iter().map(wish).collect(), ..Formation::default() }
    }

    fn fault(&mut self) {
        if self.calm {
            return;
        }
        let nodes = self.hosts.len() + self.schedulers.len();
        let (fault, lasts) = draw_fault(&mut self.random, nodes, nodes);
        self.trace.note(self.agenda.now(), format_args!("fault {fault:?} for {lasts:?}"));
        fault.apply(&mut self.network, true);
        let hosts = self.hosts.len();
        match &fault {
            Fault::Crash(node) if *node < hosts => self.power_cut(*node),
            Fault::Crash(node) => self.schedulers[*node - hosts].die(),
            Fault::Freeze(node) if *node < hosts => self.hosts[*node].frozen = true,
            Fault::Freeze(node) => self.schedulers[*node - hosts].frozen = true,
            Fault::Jump(node) => self.jump(*node),
            Fault::Cut(_) => {}
        }
        self.agenda.after(lasts, Event::Undo(fault));
        let pause = self.random.millis(500, 25_000);
        self.agenda.after(pause, Event::Fault);
    }

    /// An hour ahead or behind.
    fn jump(&mut self, node: usize) {
        let hour = Duration::from_secs(3600);
        let ahead = if self.random.chance(50) { hour } else { Duration::ZERO };
        let hosts = self.hosts.len();
        let clock = match self.hosts.get_mut(node) {
            Some(host) => &mut host.clock,
            None => &mut self.schedulers[node - hosts].clock,
        };
        clock.jump(ahead, hour - ahead);
    }

    fn undo(&mut self, fault: &Fault) {
        if self.calm {
            return;
        }
        fault.apply(&mut self.network, false);
        match fault {
            Fault::Crash(node) | Fault::Freeze(node) => self.revive(*node),
            Fault::Jump(node) => self.set_right(*node),
            Fault::Cut(_) => {}
        }
    }

    fn set_right(&mut self, node: usize) {
        let hosts = self.hosts.len();
        let clock = match self.hosts.get_mut(node) {
            Some(host) => &mut host.clock,
            None => &mut self.schedulers[node - hosts].clock,
        };
        clock.jump(Duration::ZERO, Duration::ZERO);
    }

    fn revive(&mut self, node: usize) {
        match node.checked_sub(self.hosts.len()) {
            None => {
                self.thaw(node);
                self.power_back(node);
            }
            Some(scheduler) => {
                let found = &mut self.schedulers[scheduler];
                found.frozen = false;
                if !std::mem::replace(&mut found.up, true) {
                    let boot = found.boot;
                    self.agenda.after(Duration::ZERO, Event::Round { scheduler, boot });
                }
            }
        }
    }

    /// One scheduler goes on; the other's time is over.
    fn storm_ends(&mut self) {
        self.trace.note(self.agenda.now(), format_args!("the storm is over"));
        self.calm = true;
        self.network.calm();
        for node in 0..self.hosts.len() + self.schedulers.len() {
            self.set_right(node);
            self.revive(node);
        }
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
