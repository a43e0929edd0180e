//! The loop around the planner: ask all hosts, plan, order. It remembers only what it has seen itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use host_job::Status;
use kit_clock::{Mono, Wall};
use kit_ids::{HostId, JobId};
use placement::{HostState, Job, JobState, Plan, Policy, Refusal, Retry, Snapshot, Start};

use super::host::{Listed, capacity};
use super::{Event, Order, World, host_id, key, process};
use crate::{NodeClock, Random};

const ROUND: Duration = Duration::from_secs(1);
/// How long hosts may take to answer.
const ANSWERS: Duration = Duration::from_millis(400);
/// How long an order is believed in that no host lists.
const BELIEF: Duration = Duration::from_secs(8);
/// How long a host that refused a type is not asked again.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// How long a job that belongs to its host may take to come back.
const RESURRECTION: Duration = Duration::from_secs(60);
/// A shorter time than in earnest, so that hosts are lost and return.
const POLICY: Policy =
    Policy { lost_after: Duration::from_secs(15), stable_after: Duration::from_secs(30) };

#[derive(Debug)]
pub(super) struct Scheduler {
    pub(super) up: bool,
    pub(super) frozen: bool,
    pub(super) boot: u64,
    pub(super) clock: NodeClock,
    memory: Memory,
}

#[derive(Debug, Default)]
struct Memory {
    round: u64,
    answered: BTreeSet<usize>,
    lists: BTreeMap<usize, Vec<Listed>>,
    silent: BTreeMap<usize, Mono>,
    ordered: BTreeMap<JobId, (Order, usize, u32, Mono)>,
    stopped: BTreeSet<JobId>,
    restarts: BTreeMap<JobId, u32>,
    /// Jobs whose end was seen.
    ended: BTreeSet<JobId>,
    retries: Vec<Retry>,
    refusals: Vec<Refusal>,
}

impl Scheduler {
    pub(super) fn new(random: &mut Random) -> Self {
        let clock = NodeClock::new(random);
        Self { up: true, frozen: false, boot: 0, clock, memory: Memory::default() }
    }

    pub(super) fn die(&mut self) {
        self.up = false;
        self.boot += 1;
        self.memory = Memory::default();
    }
}

impl World {
    pub(super) fn round(&mut self, number: usize, boot: u64) {
        let scheduler = &mut self.schedulers[number];
        if !scheduler.up || scheduler.boot != boot {
            return;
        }
        self.stage.after(ROUND, Event::Round { scheduler: number, boot });
        if scheduler.frozen {
            return;
        }
        scheduler.memory.round += 1;
        scheduler.memory.answered.clear();
        let round = scheduler.memory.round;
        self.stage.after(ANSWERS, Event::Plan { scheduler: number, boot, round });
        let from = self.scheduler_node(number);
        for host in 0..self.hosts.len() {
            self.send(from, host, &Event::Ask { scheduler: number, host, round });
        }
    }

    pub(super) fn hear(&mut self, number: usize, host: usize, round: u64, jobs: Vec<Listed>) {
        let memory = &mut self.schedulers[number].memory;
        if memory.round == round {
            memory.answered.insert(host);
            memory.lists.insert(host, jobs);
        }
    }

    pub(super) fn refused(&mut self, number: usize, host: usize, order: &Order) {
        let scheduler = &mut self.schedulers[number];
        let until = scheduler.clock.mono(self.stage.now()) + REFUSED_FOR;
        scheduler.memory.ordered.remove(&order.job);
        scheduler.memory.refusals.push(Refusal {
            host: host_id(host),
            formation: key(),
            process: order.process.clone(),
            why: "no".to_owned(),
            until,
        });
    }

    pub(super) fn plan(&mut self, number: usize, boot: u64, round: u64) {
        let (hosts, formation) = (self.hosts.len(), self.formation());
        let ssd: Vec<bool> = self.hosts.iter().map(|host| host.ssd).collect();
        let scheduler = &mut self.schedulers[number];
        let memory = &mut scheduler.memory;
        if scheduler.boot != boot || scheduler.frozen || memory.round != round {
            return;
        }
        let now = self.stage.now();
        let (mono, wall) = (scheduler.clock.mono(now), scheduler.clock.wall(now));
        for host in 0..hosts {
            if memory.answered.contains(&host) {
                memory.silent.remove(&host);
            } else {
                memory.silent.entry(host).or_insert(mono);
            }
        }
        memory.note_ends(mono, wall);
        let mut snapshot = memory.snapshot(mono, wall, &ssd);
        snapshot.formations.insert(key(), formation);
        let plan = placement::plan(&snapshot, &POLICY, mono);
        check(&plan, &snapshot, mono);
        if !plan.steps.is_empty() {
            self.stage.note(format_args!("scheduler {number}: {:?}", plan.steps));
        }
        self.carry_out(number, &plan, mono);
    }

    fn carry_out(&mut self, number: usize, plan: &Plan, now: Mono) {
        for stop in plan.stops() {
            self.schedulers[number].memory.stopped.insert(stop.job.clone());
        }
        for start in plan.starts() {
            let Some(host) = (0..self.hosts.len()).find(|host| host_id(*host) == start.host) else {
                continue;
            };
            let order = Order { job: self.fresh_job(host), process: start.process.clone() };
            self.schedulers[number].memory.order(&order, host, start, now);
            let from = self.scheduler_node(number);
            self.send(from, host, &Event::Put { scheduler: number, host, order });
        }
        let memory = &self.schedulers[number].memory;
        let listed =
            memory.lists.iter().flat_map(|(host, jobs)| jobs.iter().map(|job| (*host, job)));
        let again: Vec<(usize, JobId)> = listed
            .filter(|(_, job)| !job.life.status.has_ended() && memory.stopped.contains(&job.id))
            .map(|(host, job)| (host, job.id.clone()))
            .collect();
        for (host, job) in again {
            let from = self.scheduler_node(number);
            self.send(from, host, &Event::Stop { host, job });
        }
    }
}

impl Memory {
    fn order(&mut self, order: &Order, host: usize, start: &Start, now: Mono) {
        let replaced =
            |retry: &Retry| retry.process == start.process && retry.restarts == start.restarts;
        if let Some(at) = self.retries.iter().position(replaced) {
            self.retries.remove(at);
        }
        self.restarts.insert(order.job.clone(), start.restarts);
        self.ordered.insert(order.job.clone(), (order.clone(), host, start.restarts, now));
    }

    /// Jobs that were ordered and ended without being told to are replaced in their time.
    fn note_ends(&mut self, now: Mono, wall: Wall) {
        self.refusals.retain(|refusal| refusal.until > now);
        let listed: BTreeSet<&JobId> = self.lists.values().flatten().map(|job| &job.id).collect();
        let believed = |since: Mono| now.since(since) < BELIEF;
        self.ordered.retain(|id, (_, _, _, since)| !listed.contains(id) && believed(*since));
        for (host, job) in
            self.lists.iter().flat_map(|(host, jobs)| jobs.iter().map(|job| (*host, job)))
        {
            let wanted = !job.life.stop_requested && !comes_back(job, &self.lists, wall);
            if !job.life.status.has_ended() || !wanted || !self.ended.insert(job.id.clone()) {
                continue;
            }
            // One that was never ordered here is somebody else's to count.
            let Some(restarts) = self.restarts.get(&job.id) else { continue };
            let (restarts, not_before) = POLICY.retry(*restarts, ran_for(job), now);
            let (host, process) = (host_id(host), job.process.clone());
            self.retries.push(Retry { formation: key(), process, host, restarts, not_before });
        }
    }

    fn snapshot(&self, now: Mono, wall: Wall, ssd: &[bool]) -> Snapshot {
        let mut snapshot = Snapshot {
            retries: self.retries.clone(),
            refusals: self.refusals.clone(),
            generation: self.round,
            ..Snapshot::default()
        };
        for (host, ssd) in ssd.iter().enumerate() {
            snapshot.hosts.insert(host_id(host), self.planned_host(host, *ssd, now));
        }
        for (host, jobs) in &self.lists {
            let planned = jobs.iter().filter_map(|job| Some((job, self.state(job, wall)?)));
            snapshot.jobs.extend(planned.map(|(job, state)| planned_job(*host, job, state)));
        }
        for (order, host, _, _) in self.ordered.values() {
            snapshot.jobs.push(Job {
                id: order.job.clone(),
                host: host_id(*host),
                formation: Some(key()),
                process: order.process.clone(),
                state: JobState::Intended,
                created: wall,
                reservation: process(order.process.as_str()).reservation,
            });
        }
        snapshot
    }

    fn planned_host(&self, host: usize, ssd: bool, now: Mono) -> placement::Host {
        let host_job::Reservation { memory, cpu } = capacity();
        let state = match self.silent.get(&host) {
            None => HostState::Serving,
            Some(since) => HostState::Silent { since: (*since).min(now) },
        };
        let tags = if ssd { process(super::FAST).tags } else { BTreeMap::new() };
        placement::Host { tags, capacity: placement::Reservation { memory, cpu }, state }
    }

    fn state(&self, job: &Listed, wall: Wall) -> Option<JobState> {
        match job.life.status {
            Status::Starting | Status::Running
                if job.life.stop_requested || self.stopped.contains(&job.id) =>
            {
                Some(JobState::Stopping)
            }
            Status::Starting => Some(JobState::Starting),
            Status::Running => Some(JobState::Running),
            Status::Done | Status::Crashed | Status::Failed => {
                comes_back(job, &self.lists, wall).then_some(JobState::Resurrecting)
            }
        }
    }
}

/// Whether an ended job's host is about to start its successor.
fn comes_back(job: &Listed, lists: &BTreeMap<usize, Vec<Listed>>, wall: Wall) -> bool {
    let ended = job.life.ended_at.map(Wall::since_epoch).unwrap_or_default();
    let succeeded =
        || lists.values().flatten().any(|other| other.predecessor.as_ref() == Some(&job.id));
    process(job.process.as_str()).resurrect
        && job.life.status.has_ended()
        && !job.life.stop_requested
        && wall.since_epoch().saturating_sub(ended) < RESURRECTION
        && !succeeded()
}

fn ran_for(job: &Listed) -> Duration {
    match (job.life.started_at, job.life.ended_at) {
        (Some(start), Some(end)) => end.since_epoch().saturating_sub(start.since_epoch()),
        (None, _) | (_, None) => Duration::ZERO,
    }
}

fn planned_job(host: usize, job: &Listed, state: JobState) -> Job {
    Job {
        id: job.id.clone(),
        host: host_id(host),
        formation: Some(key()),
        process: job.process.clone(),
        state,
        created: job.created,
        reservation: process(job.process.as_str()).reservation,
    }
}

/// What holds for every plan, whatever was seen.
fn check(plan: &Plan, snapshot: &Snapshot, now: Mono) {
    let mut held: BTreeMap<&HostId, (u64, u64)> = BTreeMap::new();
    for job in &snapshot.jobs {
        let held = held.entry(&job.host).or_default();
        *held = (held.0 + job.reservation.memory.0, held.1 + job.reservation.cpu.0);
    }
    for start in plan.starts() {
        let (host, wish) = (&snapshot.hosts[&start.host], process(start.process.as_str()));
        assert_eq!(host.state, HostState::Serving, "{start:?}");
        assert!(
            wish.tags.iter().all(|(key, value)| host.tags.get(key) == Some(value)),
            "{start:?}"
        );
        let refused =
            |refusal: &&Refusal| refusal.host == start.host && refusal.process == start.process;
        let refusal = snapshot.refusals.iter().find(refused).filter(|refusal| refusal.until > now);
        assert_eq!(refusal, None, "{start:?}");
        let held = held.entry(&start.host).or_default();
        *held = (held.0 + wish.reservation.memory.0, held.1 + wish.reservation.cpu.0);
        let fits = held.0 <= host.capacity.memory.0 && held.1 <= host.capacity.cpu.0;
        assert!(fits, "{start:?} makes {held:?}");
    }
}
