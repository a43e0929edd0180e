//! One round: tell the controller what hosts say, plan, carry the plan out, report scale requests as
//! fulfilled. Every step may be repeated and may be the last one before the process dies.

use std::sync::Arc;
use std::time::Duration;

use controller_api::{Job, JobBuilder, JobState, JobUuid, ScaleRequest, ScaleState, VolumeType};
use futures_util::StreamExt as _;
use host_api::{ActiveJob, VolumeBinding, VolumeInfo};
use kit_clock::{Mono, Wall};
use kit_ids::{HostId, JobId, VolumeId};
use placement::{FormationKey, Plan, Policy, Refusal, Retry, Snapshot, Start, Stop, VolumeUse};

use crate::cluster::{Away, Cluster, HostSeen, NotAdded};
use crate::memory::Memory;
use crate::view::{self, View};
use crate::{known, records};

/// How long a job is looked at often, until it is up.
const COMES_UP: Duration = Duration::from_secs(60);
/// How many jobs are started at a time.
const STARTED_AT_ONCE: usize = 16;

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

    /// Sends recorded jobs again whose hosts do not list them: under the same id, so that a host that has
    /// the job already says so.
    async fn finish_intents(&mut self, view: &View, plan: &Plan, now: Mono) {
        let stopped =
            |id: &JobId| plan.stops().any(|stop| stop.job == *id) || plan.lost.contains(id);
        let listed = |id: &JobId| {
            let mut jobs = self.memory.hosts.values().flat_map(|host| &host.last.jobs);
            jobs.any(|active| active.job.id == *id)
        };
        let intents: Vec<(JobId, Job)> = view
            .recorded
            .iter()
            .filter(|(id, job)| job.state == Some(JobState::Pending) && !stopped(id) && !listed(id))
            .map(|(id, job)| (id.clone(), job.clone()))
            .collect();
        for (id, job) in intents {
            let Some(host) = records::host_of(&job).and_then(|host| self.host(&host).cloned())
            else {
                continue;
            };
            let Some(built) = build(view, &id, &job) else { continue };
            // Recorded again, so that an order that somebody else took back is not given.
            if let Err(error) = self.cluster.record(&job).await {
                tracing::warn!(job = %id, %error, "job not sent again: the controller was not told");
                continue;
            }
            let answer = self.cluster.add(&host, &built).await;
            self.note_answer(&job, answer, now).await;
        }
    }

    async fn start_all(&mut self, view: &mut View, plan: &Plan, now: Mono) {
        let fresh = || self.cluster.fresh_name().to_string().parse().ok();
        let named = plan.starts().filter_map(|start| {
            let waiting = view.take_waiting(&start.formation, &start.process);
            Some((start.clone(), waiting.or_else(fresh)?))
        });
        let named: Vec<(Start, JobUuid)> = named.collect();
        let (scheduler, view) = (&*self, &*view);
        let started: Vec<(Start, Option<Started>)> = futures_util::stream::iter(named)
            .map(|(start, uuid)| async move {
                let started = scheduler.start(view, &start, uuid).await;
                (start, started)
            })
            .buffer_unordered(STARTED_AT_ONCE)
            .collect()
            .await;
        for (start, started) in started {
            let Some((job, answer)) = started else { continue };
            let is_replaced = |retry: &Retry| {
                retry.formation == start.formation
                    && retry.process == start.process
                    && retry.restarts == start.restarts
            };
            if let Some(at) = self.memory.retries.iter().position(is_replaced) {
                self.memory.retries.remove(at);
            }
            self.note_answer(&job, answer, now).await;
        }
    }

    /// Records the job, then gives it to its host. Nothing when it could not even be recorded.
    async fn start(&self, view: &View, start: &Start, uuid: JobUuid) -> Option<Started> {
        let formation = view.formations.get(&start.formation)?;
        let host = self.host(&start.host)?;
        let id = uuid.on(&start.host).ok()?;
        let mut job = records::intended(formation, start, &uuid);
        for volume in &start.volumes {
            match self.prepare_volume(start, host, &uuid, volume).await {
                Ok(volume) => job.volumes.push(volume),
                Err(error) => {
                    tracing::warn!(job = %id, path = volume.path, %error, "volume not made, trying again");
                    return None;
                }
            }
        }
        if let Err(error) = self.cluster.record(&job).await {
            tracing::warn!(job = %id, %error, "job not started: the controller was not told");
            return None;
        }
        tracing::info!(job = %id, process = %start.process, reason = %start.reason, "starting job");
        let Some(built) = build(view, &id, &job) else {
            return Some((job, Err(NotAdded::Refused("its release cannot be run".to_owned()))));
        };
        let answer = self.cluster.add(host, &built).await;
        Some((job, answer))
    }

    /// A new volume is made and recorded; one with data is recorded as the job's.
    async fn prepare_volume(
        &self,
        start: &Start,
        host: &HostSeen,
        job: &JobUuid,
        wanted: &VolumeUse,
    ) -> Result<VolumeId, Away> {
        let id = match &wanted.existing {
            Some(id) => id.clone(),
            None => {
                let id = self.cluster.fresh_name().to_string();
                let meta = [
                    ("flynn-controller.app", start.formation.app.to_string()),
                    ("flynn-controller.release", start.formation.release.to_string()),
                    ("flynn-controller.type", start.process.to_string()),
                    ("flynn-controller.path", wanted.path.clone()),
                    ("flynn-controller.delete_on_stop", wanted.delete_on_stop.to_string()),
                ];
                let meta = meta.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
                let info = VolumeInfo {
                    id: id.clone(),
                    kind: "data".to_owned(),
                    meta,
                    ..VolumeInfo::default()
                };
                self.cluster.make_volume(host, &info).await?;
                id.parse().map_err(|error: kit_ids::ParseIdError| Away(error.to_string()))?
            }
        };
        let record = controller_api::Volume {
            path: wanted.path.clone(),
            delete_on_stop: wanted.delete_on_stop,
            id: Some(id.clone()),
            host_id: Some(host.id.clone()),
            kind: Some(VolumeType::Data),
            state: Some(controller_api::VolumeState::Created),
            app: Some(start.formation.app.clone()),
            release: Some(start.formation.release.clone()),
            job: Some(job.clone()),
            job_type: start.process.to_string(),
            ..controller_api::Volume::default()
        };
        self.cluster.record_volume(&record).await?;
        Ok(id)
    }

    /// A host that says no is not asked again for a while, and the job waits for another one.
    async fn note_answer(&mut self, job: &Job, answer: Result<(), NotAdded>, now: Mono) {
        let (Some(id), Some(host), Some(formation)) =
            (records::id_of(job), records::host_of(job), records::key_of(job))
        else {
            return;
        };
        let process = job.process_type.as_str().into();
        match answer {
            Ok(()) => self.memory.accepted(&host, &formation, &process),
            Err(NotAdded::Away(error)) => {
                tracing::warn!(job = %id, %error, "job may not have arrived, sending it again")
            }
            Err(NotAdded::Refused(why)) => {
                tracing::info!(job = %id, why, "host refused the job");
                let reason = Some(format!("{host} refused: {why}"));
                let record = Job { host_error: reason, ..records::without_host(job) };
                if let Err(error) = self.cluster.record(&record).await {
                    tracing::warn!(job = %id, %error, "refusal not recorded, trying again");
                }
                let refusal = Refusal { host, formation, process, why, until: now };
                self.memory.refused(refusal, now);
            }
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

type Started = (Job, Result<(), NotAdded>);

/// What the host is asked to run; none when the release is gone or cannot be run.
fn build(view: &View, id: &JobId, job: &Job) -> Option<host_api::Job> {
    let formation = view.formations.get(&records::key_of(job)?)?;
    let (app, release) = (formation.app.as_ref()?, formation.release.as_ref()?);
    let needs = &release.processes.get(&job.process_type)?.volumes;
    let bindings = job.volumes.iter().zip(needs).map(|(volume, need)| VolumeBinding {
        target: need.path.clone(),
        volume: volume.to_string(),
        writeable: true,
        delete_on_stop: need.delete_on_stop,
    });
    let built = JobBuilder::new(app, release, &formation.artifacts).and_then(|builder| {
        builder.formation_job(id.clone(), &job.process_type, bindings.collect())
    });
    built.map_err(|error| tracing::warn!(job = %id, %error, "release cannot be run")).ok()
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
