//! One round: tell the controller what hosts say, plan, carry the plan out, report scale requests as
//! fulfilled. Every step may be repeated and may be the last one before the process dies.

mod starting;

use std::sync::Arc;
use std::time::Duration;

use controller_api::{Job, JobState, ScaleRequest, ScaleState};
use host_api::ActiveJob;
use kit_clock::{Mono, Wall};
use kit_ids::{HostId, JobId};
use placement::{FormationKey, Plan, Policy, Retry, Snapshot, Stop};

use crate::cluster::{Away, Cluster, HostSeen};
use crate::memory::Memory;
use crate::view::{self, View};
use crate::{known, records};

/// How long a job is looked at often, until it is up.
const COMES_UP: Duration = Duration::from_secs(60);

/// Goes round and round.
pub(crate) struct Scheduler<C> {
    pub(crate) cluster: Arc<C>,
    policy: Policy,
    memory: Memory,
    /// Whether jobs are coming up that were ordered lately.
    awaits_jobs: bool,
    /// Whether a host is silent and not lost yet.
    awaits_hosts: bool,
}

impl<C: Cluster> Scheduler<C> {
    pub(crate) fn new(cluster: Arc<C>, policy: Policy) -> Self {
        let memory = Memory::default();
        Self { cluster, policy, memory, awaits_jobs: false, awaits_hosts: false }
    }

    /// Somebody else may have acted meanwhile: nothing that is remembered counts any more.
    pub(crate) fn begin_anew(&mut self) {
        self.memory = Memory::default();
    }

    /// Whether the last round saw jobs that are coming up: the next one had better be soon.
    pub(crate) fn awaits_jobs(&self) -> bool {
        self.awaits_jobs
    }

    /// Whether a host is silent that is not lost: its time passes in short rounds.
    pub(crate) fn awaits_hosts(&self) -> bool {
        self.awaits_hosts
    }

    /// The formation has been asked to change: look at it until its request is fulfilled.
    pub(crate) fn watch(&mut self, key: FormationKey) {
        self.memory.watched.insert(key);
    }

    /// One round. What was planned is answered for whoever wants to see why.
    pub(crate) async fn round(&mut self, now: Mono, wall: Wall) -> Result<Plan, Away> {
        self.memory.generation += 1;
        self.memory.forget_old(now);
        // What is read from here on nobody changes whose plan is older than ours.
        if self.cluster.claim().await? {
            // Others have told the controller of jobs meanwhile.
            self.memory.told.clear();
        }
        let mut view = view::look(&*self.cluster, &mut self.memory, &self.policy, now).await?;
        self.awaits_hosts = known::awaits_somebody(&self.memory, &self.policy, now);
        self.tell_states(&mut view, now, wall).await;
        self.tell_vanished(&mut view).await;
        let snapshot = view.snapshot(&self.memory, wall);
        self.awaits_jobs = snapshot.jobs.iter().any(|job| comes_up(job, wall));
        let plan = placement::plan(&snapshot, &self.policy, now);
        self.forget_lost(&mut view, &plan).await;
        for stop in plan.stops() {
            self.stop(&view, stop).await;
        }
        self.stop_again(&view).await;
        self.finish_intents(&view, &plan, now).await;
        self.start_all(&mut view, &plan, now).await;
        self.tell_waiting(&view, &plan, (now, wall)).await;
        self.complete_requests(&view, &snapshot).await;
        Ok(plan)
    }

    /// Tells the controller what became of each job that a host lists.
    async fn tell_states(&mut self, view: &mut View, now: Mono, wall: Wall) {
        let answering = self.memory.hosts.values().filter(|host| host.silent.is_none());
        let jobs: Vec<ActiveJob> =
            answering.flat_map(|host| host.last.jobs.iter().cloned()).collect();
        let listed: std::collections::BTreeSet<&JobId> =
            jobs.iter().map(|active| &active.job.id).collect();
        let hosts = &self.memory.hosts;
        self.memory.told.retain(|id, _| {
            let silent = id.host_part().parse().is_ok_and(|host: HostId| {
                hosts.get(&host).is_none_or(|host| host.silent.is_some())
            });
            silent || listed.contains(id)
        });
        for active in &jobs {
            if let Some(key) = records::owner(&active.job) {
                self.tell_state(view, active, &key, now, wall).await;
            }
        }
    }

    async fn tell_state(
        &mut self,
        view: &mut View,
        active: &ActiveJob,
        key: &FormationKey,
        now: Mono,
        wall: Wall,
    ) {
        let id = &active.job.id;
        let known = view.recorded.get(id).cloned();
        let recorded = known.as_ref().and_then(|job| job.state);
        // An order to stop may have been recorded by another scheduler, or without our hearing of it.
        let stopping = recorded.filter(|state| *state == JobState::Stopping);
        let told = stopping.or(self.memory.told.get(id).copied()).or(recorded);
        let started = !active.started_at.is_zero();
        let answers = view.answers(active, key);
        let mut states = records::states_on_the_way(told, active.status, answers, started);
        if told.is_none() && active.status.has_ended() && records::is_formation_job(&active.job) {
            // The controller has its end already, or never heard of it: telling its life again would
            // make it count as running for a moment.
            states.retain(|state| *state == JobState::Down);
        }
        for state in states {
            let Some(record) = records::record_of(active, key, known.as_ref(), state) else {
                return;
            };
            if let Err(error) = self.cluster.record(&record).await {
                tracing::warn!(job = %id, %state, %error, "state of job not recorded, trying again");
                return;
            }
            self.memory.told.insert(id.clone(), state);
            if state == JobState::Down {
                let comes_back = view.comes_back(active, told, wall);
                let was_wanted = known.is_some() && told != Some(JobState::Stopping) && !comes_back;
                if was_wanted && records::is_formation_job(&active.job) {
                    self.remember_to_retry(active, key, known.as_ref(), now);
                }
                view.recorded.remove(id);
            } else {
                view.recorded.insert(id.clone(), record);
            }
        }
        if let Some(state) = told {
            self.memory.told.entry(id.clone()).or_insert(state);
        }
    }

    fn remember_to_retry(
        &mut self,
        active: &ActiveJob,
        key: &FormationKey,
        known: Option<&Job>,
        now: Mono,
    ) {
        let Some(host) = known.and_then(records::host_of) else { return };
        let restarts =
            known.and_then(|job| job.restarts).and_then(|restarts| u32::try_from(restarts).ok());
        let (restarts, not_before) =
            self.policy.retry(restarts.unwrap_or(0), records::ran_for(active), now);
        let process = records::process_type(&active.job);
        tracing::info!(job = %active.job.id, status = %active.status, restarts, "job ended, it will be replaced");
        self.memory.retries.push(Retry {
            formation: key.clone(),
            process,
            host,
            restarts,
            not_before,
        });
    }

    /// Jobs that were there and that their host, which answers, does not know any more.
    async fn tell_vanished(&mut self, view: &mut View) {
        let vanished: Vec<JobId> = view
            .recorded
            .iter()
            .filter(|(_, job)| job.state != Some(JobState::Pending))
            .filter(|(id, job)| {
                let host = records::host_of(job).and_then(|host| self.memory.hosts.get(&host));
                host.is_some_and(|host| {
                    host.silent.is_none()
                        && !host.last.jobs.iter().any(|active| active.job.id == **id)
                })
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in vanished {
            tracing::warn!(job = %id, "its host no longer knows the job");
            self.record_down(view, &id).await;
        }
    }

    /// A lost host's jobs are gone as far as anybody is told.
    async fn forget_lost(&mut self, view: &mut View, plan: &Plan) {
        for id in &plan.lost {
            self.memory.told.remove(id);
            if view.recorded.contains_key(id) {
                tracing::warn!(job = %id, "its host is lost");
                self.record_down(view, id).await;
            }
        }
    }

    async fn record_down(&self, view: &mut View, id: &JobId) {
        let Some(job) = view.recorded.get(id) else { return };
        let record = Job { state: Some(JobState::Down), ..job.clone() };
        match self.cluster.record(&record).await {
            Ok(()) => {
                view.recorded.remove(id);
            }
            Err(error) => {
                tracing::warn!(job = %id, %error, "end of job not recorded, trying again")
            }
        }
    }

    fn host(&self, id: &HostId) -> Option<&HostSeen> {
        self.memory.hosts.get(id).map(|host| &host.seen)
    }

    /// Recorded first: the job counts for nothing from then on, whoever plans next.
    async fn stop(&mut self, view: &View, stop: &Stop) {
        tracing::info!(job = %stop.job, reason = %stop.reason, "stopping job");
        if let Some(job) = view.recorded.get(&stop.job) {
            let record =
                Job { state: Some(JobState::Stopping), id: Some(stop.job.clone()), ..job.clone() };
            if let Err(error) = self.cluster.record(&record).await {
                tracing::warn!(job = %stop.job, %error, "job not stopped: the controller was not told");
                return;
            }
        }
        self.memory.told.insert(stop.job.clone(), JobState::Stopping);
        self.send_stop(&stop.host, &stop.job).await;
    }

    /// Jobs that were told to stop and still run: the order may not have arrived.
    async fn stop_again(&self, view: &View) {
        for host in self.memory.hosts.values().filter(|host| host.silent.is_none()) {
            for active in host.last.jobs.iter().filter(|active| !active.status.has_ended()) {
                let state = view.recorded.get(&active.job.id).and_then(|job| job.state);
                if state == Some(JobState::Stopping) {
                    self.send_stop(&host.seen.id, &active.job.id).await;
                }
            }
        }
    }

    async fn send_stop(&self, host: &HostId, job: &JobId) {
        let Some(host) = self.host(host) else { return };
        if let Err(error) = self.cluster.stop(host, job).await {
            tracing::warn!(%job, %error, "stop not delivered, trying again");
        }
    }

    /// A request is fulfilled when as many jobs run as are wanted. The jobs' states were told before.
    async fn complete_requests(&self, view: &View, snapshot: &Snapshot) {
        for (key, formation) in &view.formations {
            let Some(request) = &formation.pending_scale_request else { continue };
            if !is_fulfilled(key, snapshot) {
                continue;
            }
            let (id, state) = (request.id.clone(), Some(ScaleState::Complete));
            let (app, release) = (Some(key.app.clone()), Some(key.release.clone()));
            let done = ScaleRequest { id, app, release, state, ..ScaleRequest::default() };
            if let Err(error) = self.cluster.complete(key, &done).await {
                tracing::warn!(app = %key.app, %error, "scale request not reported as complete, trying again");
            }
        }
    }
}

fn comes_up(job: &placement::Job, wall: Wall) -> bool {
    let age = wall.since_epoch().saturating_sub(job.created.since_epoch());
    match job.state {
        placement::JobState::Intended | placement::JobState::Starting => age < COMES_UP,
        placement::JobState::Resurrecting
        | placement::JobState::Running
        | placement::JobState::Stopping => false,
    }
}

fn is_fulfilled(key: &FormationKey, snapshot: &Snapshot) -> bool {
    let Some(wish) = snapshot.formations.get(key) else { return false };
    let serving = |process: &placement::Process| {
        let hosts =
            snapshot.hosts.values().filter(|host| host.state == placement::HostState::Serving);
        let tagged = hosts.filter(|host| {
            process.tags.iter().all(|(key, value)| host.tags.get(key) == Some(value))
        });
        tagged.count()
    };
    wish.processes.iter().all(|(name, process)| {
        let times = if process.omni { serving(process) } else { 1 };
        let of_type =
            |job: &&placement::Job| job.formation.as_ref() == Some(key) && job.process == *name;
        let jobs = snapshot.jobs.iter().filter(of_type).filter(|job| job.state.counts());
        let (there, running) = jobs.fold((0, 0), |(there, running), job| {
            (there + 1, running + usize::from(job.state == placement::JobState::Running))
        });
        running == process.count as usize * times && there == running
    })
}
