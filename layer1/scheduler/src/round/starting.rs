//! The starting part of a round: jobs that were recorded and may not have arrived, new ones with their
//! volumes, and what their hosts answer.

use controller_api::{Job, JobBuilder, JobState, JobUuid, VolumeType};
use futures_util::StreamExt as _;
use host_api::{VolumeBinding, VolumeInfo};
use kit_clock::Mono;
use kit_ids::{JobId, VolumeId};
use placement::{Plan, Refusal, Retry, Start, VolumeUse};

use super::Scheduler;
use crate::cluster::{Away, Cluster, HostSeen, Made, NotAdded};
use crate::records;
use crate::view::View;

/// How many jobs are started at a time.
const STARTED_AT_ONCE: usize = 16;

impl<C: Cluster> Scheduler<C> {
    /// Sends recorded jobs again whose hosts do not list them: under the same id, so that a host that has
    /// the job already says so.
    pub(super) async fn finish_intents(&mut self, view: &View, plan: &Plan, now: Mono) {
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

    pub(super) async fn start_all(&mut self, view: &mut View, plan: &Plan, now: Mono) {
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

    /// A new volume is made and recorded; one with data is recorded as the job's. A host that has lost the
    /// disk with a volume of its, and is back under its name, gets an empty one in its place: or its jobs
    /// would fail for ever.
    async fn prepare_volume(
        &self,
        start: &Start,
        host: &HostSeen,
        job: &JobUuid,
        wanted: &VolumeUse,
    ) -> Result<VolumeId, Away> {
        let id = match &wanted.existing {
            Some(id) => id.to_string(),
            None => self.cluster.fresh_name().to_string(),
        };
        let meta = [
            ("flynn-controller.app", start.formation.app.to_string()),
            ("flynn-controller.release", start.formation.release.to_string()),
            ("flynn-controller.type", start.process.to_string()),
            ("flynn-controller.path", wanted.path.clone()),
            ("flynn-controller.delete_on_stop", wanted.delete_on_stop.to_string()),
        ];
        let meta = meta.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let info = VolumeInfo { id, kind: "data".to_owned(), meta, ..VolumeInfo::default() };
        let made = self.cluster.make_volume(host, &info).await?;
        let id: VolumeId =
            info.id.parse().map_err(|error: kit_ids::ParseIdError| Away(error.to_string()))?;
        if made == Made::Now && wanted.existing.is_some() {
            tracing::warn!(
                volume = %id, host = %host.id, process = %start.process,
                "host has lost a volume with data: the job gets an empty one"
            );
        }
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
