//! The planning itself: for each process type compare what is there with what is wanted, choose what
//! to stop, choose where to start.

use std::collections::BTreeMap;

use kit_clock::Mono;
use kit_ids::HostId;

mod reasons;

pub(crate) use self::reasons::nowhere;
use self::reasons::{no_room, refused};
use crate::fleet::{Fleet, Slot, Standing};
use crate::plan::{Held, Plan, Start, StartReason, Step, Stop, StopReason, Unplaceable, Unplaced};
use crate::ranking::Ranking;
use crate::roll::{Called, CalledType, Roll, There};
use crate::volumes::FreeVolumes;
use crate::{
    FormationKey, Job, JobState, Policy, Process, ProcessName, Refusal, Retry, Snapshot, VolumeUse,
};

/// What to do about a snapshot.
pub fn plan(snapshot: &Snapshot, policy: &Policy, now: Mono) -> Plan {
    let mut fleet = Fleet::new(snapshot, policy, now);
    let mut roll = Roll::call(snapshot, &mut fleet);
    let next_loss = fleet.next_loss(policy);
    let mut planner = Planner::new(snapshot, fleet, now);
    for system in [true, false] {
        for at in 0..roll.formations.len() {
            if roll.formations[at].formation.system == system {
                planner.reconcile(&mut roll, at);
            }
        }
    }
    Plan { lost: roll.lost, next_loss, ..planner.finish() }
}

type TypeKey<'a> = (&'a FormationKey, &'a ProcessName);

struct Planner<'a> {
    now: Mono,
    generation: u64,
    fleet: Fleet<'a>,
    volumes: FreeVolumes<'a>,
    retries: BTreeMap<TypeKey<'a>, Vec<&'a Retry>>,
    refusals: BTreeMap<TypeKey<'a>, Vec<&'a Refusal>>,
    stops: Vec<Step>,
    starts: Vec<Step>,
    unplaced: Vec<Unplaced>,
    held: Vec<Held>,
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
    fn new(snapshot: &'a Snapshot, fleet: Fleet<'a>, now: Mono) -> Self {
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
            fleet,
            retries,
            refusals,
            stops: Vec::new(),
            starts: Vec::new(),
            unplaced: Vec::new(),
            held: Vec::new(),
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
            ..Plan::default()
        }
    }

    fn reconcile(&mut self, roll: &mut Roll<'a>, at: usize) {
        let types = std::mem::take(&mut roll.formations[at].types);
        let called = &roll.formations[at];
        for of_type in types {
            let wish = Wish { key: called.key, name: of_type.name, process: of_type.process };
            if wish.process.count == 0 && must_hold(roll, called, &of_type.jobs) {
                self.held.push(Held { formation: wish.key.clone(), process: wish.name.clone() });
            } else if wish.process.omni {
                self.reconcile_omni(wish, &of_type);
            } else {
                self.reconcile_spread(wish, of_type);
            }
        }
        // Jobs of types the formation does not name are not wanted.
        for there in &called.unnamed {
            self.stop(there.job, StopReason::Surplus);
        }
    }

    fn reconcile_spread(&mut self, wish: Wish<'a>, of_type: CalledType<'a>) {
        let wanted = wish.process.count as usize;
        let CalledType { jobs, stopping, .. } = of_type;
        let leaves = |there: &There<'a>| self.leaves(wish.process, *there).is_some();
        if jobs.len() == wanted && !jobs.iter().any(leaves) {
            return;
        }
        let (mut leaving, mut staying): (Vec<_>, Vec<_>) = jobs.into_iter().partition(leaves);
        // A leaving job goes only when enough run elsewhere, so that draining interrupts nothing.
        let running = staying.iter().filter(|there| there.job.state == JobState::Running).count();
        sort_for_stopping(&mut leaving);
        let dispensable = leaving.len().saturating_sub(wanted.saturating_sub(running));
        for there in &leaving[..dispensable] {
            let reason = self.leaves(wish.process, *there).unwrap_or(StopReason::Surplus);
            self.stop(there.job, reason);
        }
        sort_for_stopping(&mut staying);
        let surplus = staying.len().saturating_sub(wanted);
        for there in staying.drain(..surplus) {
            self.stop(there.job, StopReason::Surplus);
        }
        let missing = wanted - staying.len();
        let missing = missing - self.await_stopping(wish, missing, stopping.len());
        if missing > 0 {
            self.fill(wish, &staying, missing);
        }
    }

    /// How many of the `missing` must wait for as many jobs that were told to stop: such a job may run
    /// for as long as its host has not said that it ended.
    fn await_stopping(&mut self, wish: Wish<'a>, missing: usize, stopping: usize) -> usize {
        let waiting = missing.min(stopping);
        if waiting > 0 {
            self.leave_unplaced(wish, waiting, Unplaceable::StillStopping);
        }
        waiting
    }

    /// Why a job should go elsewhere. One that keeps data does not: elsewhere its data is not.
    fn leaves(&self, process: &Process, there: There<'a>) -> Option<StopReason> {
        let slot = self.fleet.slot(there.host);
        match slot.standing {
            Standing::Draining if !process.keeps_data() => Some(StopReason::Draining),
            Standing::Serving | Standing::Awaited
                if !slot.has_tags(process) && !process.keeps_data() =>
            {
                Some(StopReason::TagsChanged)
            }
            Standing::Draining | Standing::Serving | Standing::Awaited | Standing::Lost => None,
        }
    }

    /// Places `missing` jobs of a type that runs anywhere.
    fn fill(&mut self, wish: Wish<'a>, present: &[There<'a>], missing: usize) {
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
        for there in present {
            *same_type.entry(there.host).or_insert(0) += 1;
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

    fn ranking(
        &mut self,
        wish: Wish<'a>,
        same_type: &BTreeMap<usize, u32>,
        jobs: usize,
    ) -> Ranking {
        let refusals = self.refusals.get(&(wish.key, wish.name)).map_or(&[][..], Vec::as_slice);
        let refused = |host: &HostId| refusals.iter().any(|refusal| refusal.host == *host);
        let accepts = |slot: &Slot<'_>| slot.has_tags(wish.process) && !refused(slot.id);
        Ranking::new(&mut self.fleet, accepts, same_type, wish.process.reservation, jobs)
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

    fn reconcile_omni(&mut self, wish: Wish<'a>, of_type: &CalledType<'a>) {
        let mut by_host = BTreeMap::<usize, Vec<There<'a>>>::new();
        for there in &of_type.jobs {
            by_host.entry(there.host).or_default().push(*there);
        }
        for number in 0..self.fleet.len() {
            let mut here = by_host.remove(&number).unwrap_or_default();
            sort_for_stopping(&mut here);
            let stopping = of_type.stopping.iter().filter(|host| **host == number).count();
            self.reconcile_on_host(wish, number, &here, stopping);
        }
    }

    /// One host's share of an omni type.
    fn reconcile_on_host(
        &mut self,
        wish: Wish<'a>,
        number: usize,
        here: &[There<'a>],
        stopping: usize,
    ) {
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
        for there in &here[..here.len().saturating_sub(wanted)] {
            self.stop(there.job, reason);
        }
        let missing = wanted.saturating_sub(here.len());
        if missing == 0 {
            return;
        }
        let retries = self.retries.get(&(wish.key, wish.name)).cloned().unwrap_or_default();
        let mut retries = retries.into_iter().filter(|retry| retry.host == *id);
        for _ in self.await_stopping(wish, missing, stopping)..missing {
            match retries.next() {
                Some(retry) if retry.not_before > self.now => self.back_off(wish, retry),
                retry if self.fits(wish, number) => {
                    self.fleet.reserve(number, wish.process.reservation);
                    let volumes = self.volumes.take_on(wish.key, wish.name, wish.process, id);
                    self.start(wish, number, Vacancy::of(retry), volumes);
                }
                Some(_) | None => {
                    let refusal = self.refusal(wish, id).map(refused);
                    let reason =
                        refusal.unwrap_or_else(|| no_room(&self.fleet, wish.process, number));
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

/// A critical app keeps its last running formation.
fn must_hold(roll: &Roll<'_>, called: &Called<'_>, jobs: &[There<'_>]) -> bool {
    called.formation.critical
        && jobs.iter().any(|there| there.job.state == JobState::Running)
        && roll.running_formations(&called.key.app) < 2
}

/// What is least far comes first, then what is newest.
fn sort_for_stopping(jobs: &mut [There<'_>]) {
    jobs.sort_by(|a, b| {
        let (a, b) = (a.job, b.job);
        a.state.cmp(&b.state).then_with(|| b.created.cmp(&a.created)).then_with(|| b.id.cmp(&a.id))
    });
}
