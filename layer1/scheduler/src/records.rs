//! Between the three forms of a job: the host's, the controller's and the planner's.

use controller_api::{
    ExpandedFormation, Job, JobState, JobUuid, META_APP, META_FORMATION, META_PREFIX, META_RELEASE,
    META_TYPE, ProcessType, Timestamp,
};
use host_api::{ActiveJob, JobStatus};
use kit_ids::{HostId, JobId};
use kit_units::{Bytes, Millicpu};
use placement::{FormationKey, Process, ProcessName, Reservation, VolumeNeed};

/// The app and release a host's job belongs to; one-off jobs have them too.
pub(crate) fn owner(job: &host_api::Job) -> Option<FormationKey> {
    let app = job.meta(META_APP)?.parse().ok()?;
    let release = job.meta(META_RELEASE)?.parse().ok()?;
    Some(FormationKey { app, release })
}

/// Whether it is a formation's job.
pub(crate) fn is_formation_job(job: &host_api::Job) -> bool {
    job.meta(META_FORMATION) == Some("true")
}

pub(crate) fn process_type(job: &host_api::Job) -> ProcessName {
    job.meta(META_TYPE).unwrap_or_default().into()
}

/// The controller's record of a host's job.
pub(crate) fn record_of(
    active: &ActiveJob,
    key: &FormationKey,
    known: Option<&Job>,
    state: JobState,
) -> Option<Job> {
    let uuid = JobUuid::try_from(&active.job.id).ok()?;
    let meta = active.job.metadata.iter().filter(|(key, _)| !key.starts_with(META_PREFIX));
    let base = known.cloned().unwrap_or_else(|| Job {
        process_type: process_type(&active.job).to_string(),
        meta: meta.map(|(key, value)| (key.clone(), value.clone())).collect(),
        ..Job::default()
    });
    let volumes =
        active.job.config.volumes.iter().filter_map(|binding| binding.volume.parse().ok());
    Some(Job {
        id: Some(active.job.id.clone()),
        uuid: Some(uuid),
        host_id: active.job.id.host_part().parse().ok(),
        app: Some(key.app.clone()),
        release: Some(key.release.clone()),
        state: Some(state),
        args: active.job.config.args.clone(),
        volumes: volumes.collect(),
        exit_status: active.exit_status,
        host_error: active.error.clone(),
        created_at: None,
        updated_at: None,
        ..base
    })
}

/// The record of a job that is about to be ordered.
pub(crate) fn intended(
    formation: &ExpandedFormation,
    start: &placement::Start,
    uuid: &JobUuid,
) -> Job {
    let app = formation.app.as_ref();
    let process = process_of(formation, &start.process);
    Job {
        uuid: Some(uuid.clone()),
        host_id: Some(start.host.clone()),
        app: Some(start.formation.app.clone()),
        release: Some(start.formation.release.clone()),
        process_type: start.process.to_string(),
        state: Some(JobState::Pending),
        args: process.map(|process| process.args.clone()).unwrap_or_default(),
        meta: app.map(|app| app.meta.clone()).unwrap_or_default(),
        restarts: i32::try_from(start.restarts).ok().filter(|restarts| *restarts > 0),
        ..Job::default()
    }
}

/// The record of a job whose host did not take it: it waits for another one, without its volumes.
pub(crate) fn without_host(job: &Job) -> Job {
    Job { id: None, host_id: None, volumes: Vec::new(), ..job.clone() }
}

/// The record of a job that cannot be placed, and why.
pub(crate) fn waiting(
    formation: &ExpandedFormation,
    unplaced: &placement::Unplaced,
    uuid: &JobUuid,
) -> Job {
    let process = process_of(formation, &unplaced.process);
    let restarts = match unplaced.reason {
        placement::Unplaceable::BackingOff { restarts, .. } => i32::try_from(restarts).ok(),
        placement::Unplaceable::NoHosts
        | placement::Unplaceable::NoTags(_)
        | placement::Unplaceable::NoRoom { .. }
        | placement::Unplaceable::Refused { .. }
        | placement::Unplaceable::StillStopping
        | placement::Unplaceable::DataOnHost { .. } => None,
    };
    Job {
        uuid: Some(uuid.clone()),
        app: Some(unplaced.formation.app.clone()),
        release: Some(unplaced.formation.release.clone()),
        process_type: unplaced.process.to_string(),
        state: Some(JobState::Pending),
        args: process.map(|process| process.args.clone()).unwrap_or_default(),
        meta: formation.app.as_ref().map(|app| app.meta.clone()).unwrap_or_default(),
        host_error: Some(unplaced.reason.to_string()),
        restarts,
        ..Job::default()
    }
}

pub(crate) fn process_of<'a>(
    formation: &'a ExpandedFormation,
    name: &ProcessName,
) -> Option<&'a ProcessType> {
    formation.release.as_ref()?.processes.get(name.as_str())
}

/// The services that know a process's jobs once they are up: its own, and those that its host registers
/// for its ports.
pub(crate) fn services_of(process: &ProcessType) -> Vec<String> {
    let of_ports = process.ports.iter().filter_map(|port| port.service.as_ref());
    let names = of_ports.map(|service| &service.name).chain([&process.service]);
    names.filter(|name| !name.is_empty()).cloned().collect()
}

/// A recorded job's id on its host; none for one that has no host yet.
pub(crate) fn id_of(job: &Job) -> Option<JobId> {
    job.id.clone().or_else(|| job.uuid.as_ref()?.on(job.host_id.as_ref()?).ok())
}

pub(crate) fn host_of(job: &Job) -> Option<HostId> {
    job.host_id.clone().or_else(|| job.id.as_ref()?.host_part().parse().ok())
}

pub(crate) fn key_of(job: &Job) -> Option<FormationKey> {
    Some(FormationKey { app: job.app.clone()?, release: job.release.clone()? })
}

pub(crate) fn formation_key(formation: &ExpandedFormation) -> Option<FormationKey> {
    let (app, release) = (formation.app.as_ref()?, formation.release.as_ref()?);
    Some(FormationKey { app: app.id.clone()?, release: release.id.clone()? })
}

/// The planner's form of a formation. Every process type of the release is in it.
pub(crate) fn wish(formation: &ExpandedFormation) -> placement::Formation {
    let (app, release) = (formation.app.as_ref(), formation.release.as_ref());
    let processes = release.into_iter().flat_map(|release| &release.processes);
    placement::Formation {
        system: app.is_some_and(controller_api::App::is_system),
        critical: app.is_some_and(controller_api::App::is_critical),
        processes: processes
            .map(|(name, process)| {
                (ProcessName::from(name.as_str()), process_wish(formation, name, process))
            })
            .collect(),
    }
}

fn process_wish(formation: &ExpandedFormation, name: &str, process: &ProcessType) -> Process {
    Process {
        count: formation.processes.get(name).copied().unwrap_or(0),
        omni: process.omni,
        resurrect: process.resurrect,
        tags: formation.tags.get(name).cloned().unwrap_or_default(),
        reservation: reservation(&process.resources),
        volumes: process
            .volumes
            .iter()
            .map(|volume| VolumeNeed {
                path: volume.path.clone(),
                delete_on_stop: volume.delete_on_stop,
            })
            .collect(),
    }
}

/// What a job holds of its host.
pub(crate) fn reservation(resources: &host_api::Resources) -> Reservation {
    let (memory, cpu) = controller_api::reserved(resources);
    Reservation { memory: Bytes(memory), cpu: Millicpu(cpu) }
}

/// How long an ended job ran.
pub(crate) fn ran_for(active: &ActiveJob) -> std::time::Duration {
    let time = |at: Timestamp| at.wall().map(kit_clock::Wall::since_epoch).unwrap_or_default();
    if active.started_at.is_zero() {
        return std::time::Duration::ZERO;
    }
    time(active.ended_at).saturating_sub(time(active.started_at))
}

/// The controller's words on the way from one state to another, so that whoever waits for `up` or
/// `down` hears of each, however fast the job was.
pub(crate) fn states_on_the_way(
    told: Option<JobState>,
    status: JobStatus,
    answers: bool,
    started: bool,
) -> Vec<JobState> {
    let order = |state: JobState| match state {
        JobState::Pending | JobState::Blocked => 0,
        JobState::Starting => 1,
        JobState::Up => 2,
        JobState::Stopping => 3,
        JobState::Down | JobState::Crashed | JobState::Failed => 4,
    };
    let reached: &[JobState] = match status {
        JobStatus::Starting => &[JobState::Starting],
        JobStatus::Running if answers => &[JobState::Starting, JobState::Up],
        JobStatus::Running => &[JobState::Starting],
        JobStatus::Done | JobStatus::Crashed | JobStatus::Failed if started && answers => {
            &[JobState::Starting, JobState::Up, JobState::Down]
        }
        JobStatus::Done | JobStatus::Crashed | JobStatus::Failed => {
            &[JobState::Starting, JobState::Down]
        }
    };
    let told = told.map_or(-1, order);
    reached.iter().copied().filter(|state| order(*state) > told).collect()
}
