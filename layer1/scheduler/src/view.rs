//! The first half of a round: read the world, and make of it what the planner is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use controller_api::{ExpandedFormation, Job, JobState, JobUuid, Volume};
use host_api::{ActiveJob, META_PREDECESSOR};
use kit_clock::{Mono, Wall};
use kit_ids::{HostId, JobId};
use placement::{FormationKey, Policy, ProcessName, Snapshot, VolumeState};

use crate::cluster::{Away, Cluster, Lookup};
use crate::memory::Memory;
use crate::{known, records};

/// How long a job that belongs to its host may take to come back before it is replaced.
const RESURRECTION: Duration = Duration::from_secs(60);

/// What controller and discovery say, hosts' answers being in the memory.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) formations: BTreeMap<FormationKey, ExpandedFormation>,
    /// Formations in the planner's form; deleted ones want nothing.
    pub(crate) wishes: BTreeMap<FormationKey, placement::Formation>,
    /// The jobs that the controller believes to be there.
    pub(crate) recorded: BTreeMap<JobId, Job>,
    /// Records of jobs that have no host yet, by process type.
    pub(crate) waiting: BTreeMap<(FormationKey, ProcessName), Vec<Job>>,
    pub(crate) volumes: Vec<Volume>,
    /// Which jobs answer for a service.
    answering: BTreeMap<String, BTreeSet<JobId>>,
    /// Jobs whose host started a successor.
    succeeded: BTreeSet<JobId>,
}

/// Reads everything. Fails when controller or discovery do not answer; a silent host is remembered as
/// silent.
pub(crate) async fn look<C: Cluster>(
    cluster: &C,
    memory: &mut Memory,
    policy: &Policy,
    now: Mono,
) -> Result<View, Away> {
    let mut view = View { volumes: cluster.volumes().await?, ..View::default() };
    for job in cluster.recorded().await? {
        if let Some(id) = records::id_of(&job) {
            view.recorded.insert(id, job);
        } else if let Some(key) = records::key_of(&job) {
            let process = job.process_type.as_str().into();
            view.waiting.entry((key, process)).or_default().push(job);
        }
    }
    known::meet(cluster, memory, &view, policy, now).await?;
    for formation in cluster.formations().await? {
        if let Some(key) = records::formation_key(&formation) {
            view.wishes.insert(key.clone(), records::wish(&formation));
            view.formations.insert(key, formation);
        }
    }
    look_up_others(cluster, memory, &mut view, now).await?;
    ask_services(cluster, &mut view).await?;
    let jobs = memory.hosts.values().flat_map(|host| &host.last.jobs);
    view.succeeded =
        jobs.filter_map(|active| active.job.meta(META_PREDECESSOR)?.parse().ok()).collect();
    Ok(view)
}

/// Formations that want nothing are not listed; those with jobs or an open request still matter.
async fn look_up_others<C: Cluster>(
    cluster: &C,
    memory: &mut Memory,
    view: &mut View,
    now: Mono,
) -> Result<(), Away> {
    memory.watched.extend(view.formations.keys().cloned());
    let jobs = memory.hosts.values().flat_map(|host| &host.last.jobs);
    let running =
        jobs.filter(|active| !active.status.has_ended() && records::is_formation_job(&active.job));
    let with_jobs: BTreeSet<FormationKey> =
        running.filter_map(|active| records::owner(&active.job)).collect();
    memory.missing.retain(|key, _| with_jobs.contains(key) && !view.formations.contains_key(key));
    let keys: Vec<FormationKey> = memory.watched.union(&with_jobs).cloned().collect();
    for key in keys {
        if view.formations.contains_key(&key) {
            continue;
        }
        match cluster.formation(&key).await? {
            Lookup::Found(formation) => {
                if formation.pending_scale_request.is_none() && !with_jobs.contains(&key) {
                    memory.watched.remove(&key);
                } else {
                    memory.watched.insert(key.clone());
                }
                view.wishes.insert(key.clone(), records::wish(&formation));
                view.formations.insert(key, *formation);
            }
            Lookup::Deleted => {
                if memory.is_deleted(&key, now) {
                    view.wishes.insert(key, placement::Formation::default());
                }
            }
            Lookup::Unknown => {
                memory.watched.remove(&key);
            }
        }
    }
    Ok(())
}

async fn ask_services<C: Cluster>(cluster: &C, view: &mut View) -> Result<(), Away> {
    let processes = view.formations.values().flat_map(|formation| {
        let release = formation.release.iter().flat_map(|release| &release.processes);
        release.filter(|(name, _)| formation.processes.get(*name).is_some_and(|count| *count > 0))
    });
    let services: BTreeSet<String> =
        processes.flat_map(|(_, process)| records::services_of(process)).collect();
    for service in services {
        let jobs = cluster.answering(&service).await?;
        view.answering.insert(service, jobs);
    }
    Ok(())
}

impl View {
    /// Whether a job can be said to be up: one with services when all of them know it.
    pub(crate) fn answers(&self, active: &ActiveJob, key: &FormationKey) -> bool {
        let process = self.formations.get(key).and_then(|formation| {
            records::process_of(formation, &records::process_type(&active.job))
        });
        let process = process.filter(|_| records::is_formation_job(&active.job));
        process.into_iter().flat_map(records::services_of).all(|service| {
            let known = self.answering.get(&service);
            known.is_none_or(|jobs| jobs.contains(&active.job.id))
        })
    }

    /// Whether an ended job's host is about to start its successor.
    pub(crate) fn comes_back(
        &self,
        active: &ActiveJob,
        told: Option<JobState>,
        wall: Wall,
    ) -> bool {
        let ended = active.ended_at.wall().map(Wall::since_epoch).unwrap_or_default();
        active.job.resurrect
            && !active.force_stop
            && told != Some(JobState::Stopping)
            && !self.succeeded.contains(&active.job.id)
            && wall.since_epoch().saturating_sub(ended) < RESURRECTION
    }

    /// The record of a job that waits for a host, for the job that found one.
    pub(crate) fn take_waiting(
        &mut self,
        key: &FormationKey,
        process: &ProcessName,
    ) -> Option<JobUuid> {
        let waiting = self.waiting.get_mut(&(key.clone(), process.clone()))?;
        waiting.pop().and_then(|job| job.uuid)
    }

    /// The planner's snapshot.
    pub(crate) fn snapshot(&self, memory: &Memory, wall: Wall) -> Snapshot {
        let mut snapshot = Snapshot {
            formations: self.wishes.clone(),
            retries: memory.retries.clone(),
            refusals: memory.refusals.iter().map(|known| known.refusal.clone()).collect(),
            generation: memory.generation,
            ..Snapshot::default()
        };
        let mut listed = BTreeSet::new();
        for (id, host) in &memory.hosts {
            snapshot.hosts.insert(id.clone(), known::planned(host, memory));
            for active in &host.last.jobs {
                listed.insert(&active.job.id);
                snapshot.jobs.extend(self.planned_job(id, active, memory, wall));
            }
        }
        let unlisted = self.recorded.iter().filter(|(id, _)| !listed.contains(id));
        snapshot.jobs.extend(unlisted.filter_map(|(id, job)| self.planned_record(id, job)));
        self.add_volumes(&mut snapshot);
        snapshot
    }

    fn planned_job(
        &self,
        host: &HostId,
        active: &ActiveJob,
        memory: &Memory,
        wall: Wall,
    ) -> Option<placement::Job> {
        let key = records::owner(&active.job);
        let told = memory.told.get(&active.job.id).copied();
        let recorded = self.recorded.get(&active.job.id).and_then(|job| job.state);
        let stopping = told == Some(JobState::Stopping) || recorded == Some(JobState::Stopping);
        let answers = key.as_ref().is_none_or(|key| self.answers(active, key));
        let state = match active.status {
            host_api::JobStatus::Starting | host_api::JobStatus::Running if stopping => {
                placement::JobState::Stopping
            }
            host_api::JobStatus::Running if answers => placement::JobState::Running,
            host_api::JobStatus::Starting | host_api::JobStatus::Running => {
                placement::JobState::Starting
            }
            host_api::JobStatus::Done
            | host_api::JobStatus::Crashed
            | host_api::JobStatus::Failed => {
                if !self.comes_back(active, recorded.or(told), wall) {
                    return None;
                }
                placement::JobState::Resurrecting
            }
        };
        Some(placement::Job {
            id: active.job.id.clone(),
            host: host.clone(),
            formation: key.filter(|_| records::is_formation_job(&active.job)),
            process: records::process_type(&active.job),
            state,
            created: active.created_at.wall().unwrap_or_default(),
            reservation: records::reservation(&active.job.resources),
        })
    }

    /// A job its host does not list: ordered and not confirmed, or on a host that was never reached.
    fn planned_record(&self, id: &JobId, job: &Job) -> Option<placement::Job> {
        let state = match job.state? {
            JobState::Pending | JobState::Blocked => placement::JobState::Intended,
            JobState::Starting => placement::JobState::Starting,
            JobState::Up => placement::JobState::Running,
            JobState::Stopping => placement::JobState::Stopping,
            JobState::Down | JobState::Crashed | JobState::Failed => return None,
        };
        let (key, process) =
            (records::key_of(job), placement::ProcessName::from(job.process_type.as_str()));
        let wish = key
            .as_ref()
            .and_then(|key| self.wishes.get(key))
            .and_then(|wish| wish.processes.get(&process));
        Some(placement::Job {
            id: id.clone(),
            host: records::host_of(job)?,
            reservation: wish.map(|wish| wish.reservation).unwrap_or_default(),
            // One-off jobs have no type, and no formation.
            formation: key.filter(|_| !job.process_type.is_empty()),
            process,
            state,
            created: job.created_at.and_then(controller_api::Timestamp::wall).unwrap_or_default(),
        })
    }

    fn add_volumes(&self, snapshot: &mut Snapshot) {
        let present: BTreeSet<&str> =
            snapshot.jobs.iter().map(|job| job.id.unique_part()).collect();
        let mut volumes = BTreeMap::new();
        for volume in self.volumes.iter().filter(|volume| !volume.delete_on_stop) {
            let (Some(id), Some(host), Some(app), Some(release)) =
                (&volume.id, &volume.host_id, &volume.app, &volume.release)
            else {
                continue;
            };
            let held = volume.job.as_ref().is_some_and(|job| present.contains(job.as_str()));
            let state = match volume.state {
                Some(controller_api::VolumeState::Destroyed) => continue,
                _ if volume.decommissioned_at.is_some() => VolumeState::Decommissioned,
                _ if held => VolumeState::Held,
                Some(
                    controller_api::VolumeState::Pending | controller_api::VolumeState::Created,
                )
                | None => VolumeState::Free,
            };
            let formation = FormationKey { app: app.clone(), release: release.clone() };
            let (host, path) = (host.clone(), volume.path.clone());
            let process = volume.job_type.as_str().into();
            volumes.insert(id.clone(), placement::Volume { host, formation, process, path, state });
        }
        drop(present);
        snapshot.volumes = volumes;
    }
}
