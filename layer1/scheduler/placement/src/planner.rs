//! The planning itself: for each process type compare what is there with what is wanted, choose what
//! to stop, choose where to start.

use std::collections::BTreeMap;

use kit_clock::Mono;
use kit_ids::{AppId, HostId, JobId};

mod reasons;

use self::reasons::refused;
use crate::fleet::{Fleet, Standing, hash};
use crate::plan::{Held, Plan, Start, StartReason, Step, Stop, StopReason, Unplaceable, Unplaced};
use crate::ranking::Ranking;
use crate::volumes::FreeVolumes;
use crate::{
    Formation, FormationKey, Job, JobState, Policy, Process, ProcessName, Refusal, Retry, Snapshot,
    VolumeUse,
};

/// What to do about a snapshot.
pub fn plan(snapshot: &Snapshot, policy: &Policy, now: Mono) -> Plan {
    let mut planner = Planner::new(snapshot, policy, now);
    for system in [true, false] {
        for (key, formation) in &snapshot.formations {
            if formation.system == system {
                planner.reconcile(key, formation);
            }
        }
    }
    planner.finish()
}

type TypeKey<'a> = (&'a FormationKey, &'a ProcessName);
type JobsByType<'a> = BTreeMap<&'a ProcessName, Vec<&'a Job>>;

struct Planner<'a> {
    now: Mono,
    generation: u64,
    fleet: Fleet<'a>,
    volumes: FreeVolumes<'a>,
    jobs: BTreeMap<&'a FormationKey, JobsByType<'a>>,
    retries: BTreeMap<TypeKey<'a>, Vec<&'a Retry>>,
    refusals: BTreeMap<TypeKey<'a>, Vec<&'a Refusal>>,
    /// Where jobs that were told to stop may still run, one entry a job.
    stopping: BTreeMap<TypeKey<'a>, Vec<&'a HostId>>,
    /// How many formations of an app have running jobs.
    running_formations: BTreeMap<&'a AppId, usize>,
    stops: Vec<Step>,
    starts: Vec<Step>,
    unplaced: Vec<Unplaced>,
    held: Vec<Held>,
    lost: Vec<JobId>,
}

/// One process type being planned.
#[derive(Clone, Copy)]
struct Wish<'a> {
    key: &'a FormationKey,
    name: &'a ProcessName,
    process: &'a Process,
}

/// A job to start: how often its line was restarted, and where it must go, if anywhere.
#[derive(Clone, Copy)]
struct Vacancy {
    restarts: u32,
    reason: StartReason,
}

impl Vacancy {
    fn of(retry: Option<&Retry>) -> Self {
        match retry {
            Some(retry) => Self { restarts: retry.restarts, reason: StartReason::Ended },
            None => Self { restarts: 0, reason: StartReason::Missing },
        }
    }
}

impl<'a> Planner<'a> {
    fn new(snapshot: &'a Snapshot, policy: &Policy, now: Mono) -> Self {
        let fleet = Fleet::new(snapshot, policy, now);
        let (mut jobs, mut lost) = (BTreeMap::<_, JobsByType<'a>>::new(), Vec::new());
        let mut stopping = BTreeMap::<TypeKey<'a>, Vec<&'a HostId>>::new();
        for job in &snapshot.jobs {
            if fleet.standing(&job.host) == Standing::Lost {
                lost.push(job.id.clone());
                continue;
            }
            let Some(key) = &job.formation else { continue };
            if job.state.counts() {
                jobs.entry(key).or_default().entry(&job.process).or_default().push(job);
            } else {
                stopping.entry((key, &job.process)).or_default().push(&job.host);
            }
        }
        let mut retries = BTreeMap::<TypeKey<'a>, Vec<&'a Retry>>::new();
        for retry in &snapshot.retries {
            retries.entry((&retry.formation, &retry.process)).or_default().push(retry);
        }
        for line in retries.values_mut() {
            line.sort_by_key(|retry| (retry.not_before, retry.restarts));
        }
        let mut refusals = BTreeMap::<TypeKey<'a>, Vec<&'a Refusal>>::new();
        for refusal in snapshot.refusals.iter().filter(|refusal| refusal.until > now) {
            refusals.entry((&refusal.formation, &refusal.process)).or_default().push(refusal);
        }
        Self {
            now,
            generation: snapshot.generation,
            volumes: FreeVolumes::new(snapshot),
            running_formations: running_formations(&jobs),
            fleet,
            jobs,
            retries,
            refusals,
            stopping,
            stops: Vec::new(),
            starts: Vec::new(),
            unplaced: Vec::new(),
            held: Vec::new(),
            lost,
        }
    }

    fn finish(self) -> Plan {
        let mut steps = self.stops;
        steps.extend(self.starts);
        Plan {
            generation: self.generation,
            steps,
            unplaced: self.unplaced,
            held: self.held,
            lost: self.lost,
        }
    }

    fn reconcile(&mut self, key: &'a FormationKey, formation: &'a Formation) {
        let mut there = self.jobs.remove(key).unwrap_or_default();
        for (name, process) in &formation.processes {
            let wish = Wish { key, name, process };
            let jobs = there.remove(name).unwrap_or_default();
            if process.count == 0 && self.must_hold(wish, formation, &jobs) {
                self.held.push(Held { formation: key.clone(), process: name.clone() });
            } else if process.omni {
                self.reconcile_omni(wish, &jobs);
            } else {
                self.reconcile_spread(wish, jobs);
            }
        }
        // Jobs of types the formation does not name are not wanted.
        for job in there.into_values().flatten() {
            self.stop(job, StopReason::Surplus);
        }
    }

    /// A critical app keeps its last running formation.
    fn must_hold(&self, wish: Wish<'a>, formation: &Formation, jobs: &[&Job]) -> bool {
        let others = self.running_formations.get(&wish.key.app).copied().unwrap_or(0);
        formation.critical && others < 2 && jobs.iter().any(|job| job.state == JobState::Running)
    }

    fn reconcile_spread(&mut self, wish: Wish<'a>, jobs: Vec<&'a Job>) {
        let wanted = wish.process.count as usize;
        let (mut staying, mut leaving): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| self.leaves(wish.process, job).is_none());
        // A leaving job goes only when enough run elsewhere, so that draining interrupts nothing.
        let running = staying.iter().filter(|job| job.state == JobState::Running).count();
        sort_for_stopping(&mut leaving);
        let dispensable = leaving.len().saturating_sub(wanted.saturating_sub(running));
        for job in &leaving[..dispensable] {
            let reason = self.leaves(wish.process, job).unwrap_or(StopReason::Surplus);
            self.stop(job, reason);
        }
        sort_for_stopping(&mut staying);
        let surplus = staying.len().saturating_sub(wanted);
        for job in staying.drain(..surplus) {
            self.stop(job, StopReason::Surplus);
        }
        let missing = wanted - staying.len();
        let missing = missing - self.await_stopping(wish, missing, None);
        if missing > 0 {
            self.fill(wish, &staying, missing);
        }
    }

    /// How many of the `missing` must wait for as many jobs that were told to stop, anywhere or on one
    /// host: such a job may run for as long as its host has not said that it ended.
    fn await_stopping(&mut self, wish: Wish<'a>, missing: usize, on: Option<&'a HostId>) -> usize {
        let stopping = self.stopping.get(&(wish.key, wish.name)).map_or(&[][..], Vec::as_slice);
        let stopping = stopping.iter().filter(|host| on.is_none_or(|on| on == **host)).count();
        let waiting = missing.min(stopping);
        if waiting > 0 {
            self.leave_unplaced(wish, waiting, Unplaceable::StillStopping);
        }
        waiting
    }

    /// Why a job should go elsewhere. One that keeps data does not: elsewhere its data is not.
    fn leaves(&self, process: &Process, job: &Job) -> Option<StopReason> {
        let slot = self.fleet.slot(self.fleet.number(&job.host)?);
        if process.keeps_data() {
            return None;
        }
        match slot.standing {
            Standing::Draining => Some(StopReason::Draining),
            Standing::Serving | Standing::Awaited if !slot.has_tags(process) => {
                Some(StopReason::TagsChanged)
            }
            Standing::Serving | Standing::Awaited | Standing::Lost => None,
        }
    }

    /// Places `missing` jobs of a type that runs anywhere.
    fn fill(&mut self, wish: Wish<'a>, present: &[&Job], missing: usize) {
        let retries = self.retries.get(&(wish.key, wish.name)).cloned().unwrap_or_default();
        let mut vacancies = Vec::with_capacity(missing);
        for at in 0..missing {
            match retries.get(at).copied() {
                Some(retry) if retry.not_before > self.now => self.back_off(wish, retry),
                retry => vacancies.push(Vacancy::of(retry)),
            }
        }
        let vacancies = self.fill_pinned(wish, vacancies);
        if vacancies.is_empty() {
            return;
        }
        let mut same_type = BTreeMap::new();
        for number in present.iter().filter_map(|job| self.fleet.number(&job.host)) {
            *same_type.entry(number).or_insert(0) += 1;
        }
        let mut ranking = self.ranking(wish, &same_type, vacancies.len());
        for (at, vacancy) in vacancies.iter().enumerate() {
            let Some(number) = ranking.take(&mut self.fleet) else {
                let reason = self.why_nowhere(wish);
                self.leave_unplaced(wish, vacancies.len() - at, reason);
                return;
            };
            let host = self.fleet.slot(number).id;
            let volumes = self.volumes.take_on(wish.key, wish.name, wish.process, host);
            self.start(wish, number, *vacancy, volumes);
        }
    }

    fn ranking(&self, wish: Wish<'a>, same_type: &BTreeMap<usize, u32>, jobs: usize) -> Ranking {
        let refusals = self.refusals.get(&(wish.key, wish.name)).map_or(&[][..], Vec::as_slice);
        let refused = |host: &HostId| refusals.iter().any(|refusal| refusal.host == *host);
        let candidates = self
            .fleet
            .slots()
            .filter(|(_, slot)| slot.takes(wish.process) && !refused(slot.id))
            .map(|(number, _)| number);
        let seed = hash(wish.key.app.as_str())
            ^ hash(wish.key.release.as_str()).rotate_left(17)
            ^ hash(wish.name.as_str());
        Ranking::new(&self.fleet, candidates, same_type, seed, wish.process.reservation, jobs)
    }

    /// Jobs whose data exists go to it, or wait for it. Answers who is left to go anywhere.
    fn fill_pinned(&mut self, wish: Wish<'a>, vacancies: Vec<Vacancy>) -> Vec<Vacancy> {
        let mut vacancies = vacancies.into_iter();
        for (volume, host) in self.volumes.pinning(wish.key, wish.name, wish.process) {
            let standing = self.fleet.standing(host);
            // Jobs that belong to their host replicate their data; with the host lost they begin anew.
            if standing == Standing::Lost && wish.process.resurrect {
                continue;
            }
            let Some(vacancy) = vacancies.next() else { break };
            let number = self.fleet.number(host).filter(|number| self.fits(wish, *number));
            if let Some(number) = number {
                self.fleet.reserve(number, wish.process.reservation);
                let volumes = self.volumes.take_on(wish.key, wish.name, wish.process, host);
                self.start(wish, number, vacancy, volumes);
            } else {
                self.volumes.set_aside(volume);
                let (volume, host) = (volume.clone(), host.clone());
                let problem = standing.problem();
                self.leave_unplaced(wish, 1, Unplaceable::DataOnHost { volume, host, problem });
            }
        }
        vacancies.collect()
    }

    fn fits(&self, wish: Wish<'a>, number: usize) -> bool {
        let slot = self.fleet.slot(number);
        slot.takes(wish.process)
            && slot.has_room(wish.process.reservation)
            && self.refusal(wish, slot.id).is_none()
    }

    fn reconcile_omni(&mut self, wish: Wish<'a>, jobs: &[&'a Job]) {
        let mut by_host = BTreeMap::<usize, Vec<&'a Job>>::new();
        for job in jobs {
            if let Some(number) = self.fleet.number(&job.host) {
                by_host.entry(number).or_default().push(job);
            }
        }
        for number in 0..self.fleet.slots().count() {
            let mut here = by_host.remove(&number).unwrap_or_default();
            sort_for_stopping(&mut here);
            self.reconcile_on_host(wish, number, &here);
        }
    }

    /// One host's share of an omni type.
    fn reconcile_on_host(&mut self, wish: Wish<'a>, number: usize, here: &[&'a Job]) {
        let slot = self.fleet.slot(number);
        let (id, tagged) = (slot.id, slot.has_tags(wish.process));
        let wanted = match slot.standing {
            Standing::Serving if tagged => wish.process.count as usize,
            Standing::Serving => 0,
            // What runs there goes with the host, unless nothing of the type is wanted at all.
            Standing::Draining | Standing::Awaited => here.len().min(wish.process.count as usize),
            Standing::Lost => return,
        };
        let reason = if tagged { StopReason::Surplus } else { StopReason::TagsChanged };
        for job in &here[..here.len().saturating_sub(wanted)] {
            self.stop(job, reason);
        }
        let retries = self.retries.get(&(wish.key, wish.name)).cloned().unwrap_or_default();
        let mut retries = retries.into_iter().filter(|retry| retry.host == *id);
        let missing = wanted.saturating_sub(here.len());
        for _ in self.await_stopping(wish, missing, Some(id))..missing {
            match retries.next() {
                Some(retry) if retry.not_before > self.now => self.back_off(wish, retry),
                retry if self.fits(wish, number) => {
                    self.fleet.reserve(number, wish.process.reservation);
                    let volumes = self.volumes.take_on(wish.key, wish.name, wish.process, id);
                    self.start(wish, number, Vacancy::of(retry), volumes);
                }
                Some(_) | None => {
                    let refusal = self.refusal(wish, id).map(refused);
                    let reason = refusal.unwrap_or_else(|| self.no_room(wish, number));
                    self.leave_unplaced(wish, 1, reason);
                }
            }
        }
    }

    fn start(&mut self, wish: Wish<'a>, number: usize, vacancy: Vacancy, volumes: Vec<VolumeUse>) {
        self.starts.push(Step::Start(Start {
            formation: wish.key.clone(),
            process: wish.name.clone(),
            host: self.fleet.slot(number).id.clone(),
            restarts: vacancy.restarts,
            volumes,
            reason: vacancy.reason,
        }));
    }

    fn stop(&mut self, job: &Job, reason: StopReason) {
        self.stops.push(Step::Stop(Stop { job: job.id.clone(), host: job.host.clone(), reason }));
    }
}

/// What is least far comes first, then what is newest.
fn sort_for_stopping(jobs: &mut [&Job]) {
    jobs.sort_by(|a, b| {
        a.state.cmp(&b.state).then_with(|| b.created.cmp(&a.created)).then_with(|| b.id.cmp(&a.id))
    });
}

fn running_formations<'a>(
    jobs: &BTreeMap<&'a FormationKey, JobsByType<'a>>,
) -> BTreeMap<&'a AppId, usize> {
    let mut running = BTreeMap::new();
    for (key, types) in jobs {
        if types.values().flatten().any(|job| job.state == JobState::Running) {
            *running.entry(&key.app).or_insert(0) += 1;
        }
    }
    running
}
