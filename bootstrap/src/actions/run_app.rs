//! Runs an app's jobs without a controller: plan, write the plan down, make it true.
//!
//! The plan (ids, environment with its secrets, hosts, volumes) is on disk before any host hears of
//! it, so an interrupted run finds its jobs again instead of starting others beside them. Later
//! steps register the app in the controller from the same plan.

use std::collections::BTreeMap;
use std::time::Duration;

use controller_api::{App, Artifact, JobBuilder, META_SYSTEM_APP, ProcessType, Release, Resource};
use host_api::{
    ActiveJob, HostClient, Job, JobStatus, META_PREDECESSOR, VolumeBinding, VolumeInfo,
};
use kit_backoff::Backoff;
use kit_ids::{AppId, ArtifactId, HostId, JobId, ReleaseId, ResourceId, VolumeId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::placement::hosts_of;
use super::{ActionError, Context, call};
use crate::cluster::Host;
use crate::steps::{AppSpec, ProcessSpec, ResourceSpec};
use crate::values::resolve_env;

/// How often a host is asked whether a job runs yet.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The volume provider every host has.
const PROVIDER: &str = "default";

/// What was decided; later steps read it too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) app: App,
    pub(super) release: Release,
    pub(super) artifacts: Vec<Artifact>,
    pub(super) resources: Vec<(ProviderRef, Resource)>,
    pub(super) processes: BTreeMap<String, u32>,
    jobs: Vec<PlannedJob>,
}

/// Who made a resource.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ProviderRef {
    pub(super) name: String,
    pub(super) url: String,
}

/// What a provider answers: the id is its own, not the controller's.
#[derive(Debug, Deserialize)]
struct Provisioned {
    id: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PlannedJob {
    host: HostId,
    process_type: String,
    id: JobId,
    volumes: Vec<PlannedVolume>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PlannedVolume {
    id: VolumeId,
    path: String,
    delete_on_stop: bool,
}

/// Runs the app's jobs and waits until they run.
pub(super) async fn run(spec: &AppSpec, mut context: Context<'_>) -> Result<(), ActionError> {
    let mut plan = planned(spec, &mut context).await?;
    for at in 0..plan.jobs.len() {
        let job = &plan.jobs[at];
        let host = context.hosts.iter().find(|host| host.id == job.host);
        let host = host.ok_or_else(|| ActionError::HostGone(job.host.to_string()))?;
        if let Presence::Ended = presence(&host.client, job).await? {
            plan.jobs[at].id = JobId::random(&host.id);
            context.record.keep(context.step, &plan)?;
        }
        start(&plan, &plan.jobs[at], host, context.options.job_timeout).await?;
    }
    Ok(())
}

/// The plan of this step, made and written down at the first asking.
pub(super) async fn planned(
    spec: &AppSpec,
    context: &mut Context<'_>,
) -> Result<Plan, ActionError> {
    if let Some(plan) = context.record.data::<Plan>(context.step)? {
        return Ok(plan);
    }
    let plan = make_plan(spec, context).await?;
    context.record.keep(context.step, &plan)?;
    Ok(plan)
}

/// Decides everything that a second run must not decide again.
async fn make_plan(spec: &AppSpec, context: &Context<'_>) -> Result<Plan, ActionError> {
    let artifact = image(spec.image, context.hosts).await?;
    let resources = provision(&spec.resources, context).await?;
    let host_ips = context.host_ips();
    let facts = context.facts(&host_ips);
    let app = App {
        id: Some(AppId::random()),
        meta: app_meta(spec),
        strategy: Some(spec.strategy),
        deploy_timeout: spec.deploy_timeout,
        ..App::named(spec.name)
    };
    let mut env = BTreeMap::new();
    resources.iter().for_each(|(_, resource)| env.extend(resource.env.clone()));
    env.extend(passed_on(spec, context));
    env.extend(resolve_env(&spec.env, facts)?);
    let mut release = Release {
        id: Some(ReleaseId::random()),
        app_id: app.id.clone(),
        artifacts: artifact.id.iter().cloned().collect(),
        env,
        ..Release::default()
    };
    let (mut jobs, mut processes) = (Vec::new(), BTreeMap::new());
    for process in &spec.processes {
        let env = resolve_env(&process.env, facts)?;
        let process_type = ProcessType { env, ..process.process.clone() };
        release.processes.insert(process.name.to_owned(), process_type);
        let planned = plan_jobs(process, context);
        processes.insert(process.name.to_owned(), count(process, planned.len()));
        jobs.extend(planned);
    }
    Ok(Plan { app, release, artifacts: vec![artifact], resources, processes, jobs })
}

/// What the app gets of the bootstrap's own environment.
fn passed_on(spec: &AppSpec, context: &Context<'_>) -> BTreeMap<String, String> {
    let Some(prefix) = spec.env_prefix else { return BTreeMap::new() };
    let is_meant =
        |(name, value): &(&String, &String)| name.starts_with(prefix) && !value.is_empty();
    let all = context.options.env.iter().filter(is_meant);
    all.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The formation's count: that of omni process types is per host.
fn count(process: &ProcessSpec, jobs: usize) -> u32 {
    if process.process.omni { 1 } else { u32::try_from(jobs).unwrap_or(u32::MAX) }
}

fn plan_jobs(process: &ProcessSpec, context: &Context<'_>) -> Vec<PlannedJob> {
    let hosts: Vec<_> = context.hosts.iter().map(|host| host.id.clone()).collect();
    let start = usize::from(rand::random::<u16>());
    let hosts = hosts_of(process.count, &hosts, context.options.is_singleton(), start);
    let volume = |request: &controller_api::VolumeReq| PlannedVolume {
        id: VolumeId::random(),
        path: request.path.clone(),
        delete_on_stop: request.delete_on_stop,
    };
    let job = |host: HostId| PlannedJob {
        id: JobId::random(&host),
        host,
        process_type: process.name.to_owned(),
        volumes: process.process.volumes.iter().map(volume).collect(),
    };
    hosts.into_iter().map(job).collect()
}

fn app_meta(spec: &AppSpec) -> BTreeMap<String, String> {
    let mut meta = spec.meta.clone();
    meta.insert(META_SYSTEM_APP.to_owned(), "true".to_owned());
    meta
}

/// The image as the first host that has it knows it; the others fetch its layers from there.
pub(super) async fn image(name: &str, hosts: &[Host]) -> Result<Artifact, ActionError> {
    for host in hosts {
        let images = host.client.images().await;
        let mut images = images.map_err(call(format!("listing the images of host {}", host.id)))?;
        let Some(found) = images.remove(name) else { continue };
        let mut artifact: Artifact = serde_json::from_value(found).map_err(|source| {
            ActionError::BadImage { image: name.to_owned(), host: host.id.to_string(), source }
        })?;
        artifact.id = artifact.id.or_else(|| Some(ArtifactId::random()));
        return Ok(artifact);
    }
    Err(ActionError::NoImage(name.to_owned()))
}

/// Asks the providers. An interrupted run may ask twice: a resource nobody uses is harmless.
async fn provision(
    specs: &[ResourceSpec],
    context: &Context<'_>,
) -> Result<Vec<(ProviderRef, Resource)>, ActionError> {
    let mut resources = Vec::new();
    for spec in specs {
        let asking = || call(format!("asking provider {} for a resource", spec.name));
        let client = context.http(spec.url).await.map_err(asking())?;
        let body = serde_json::json!({});
        let made: Provisioned = client.post_json(spec.url, &body).await.map_err(asking())?;
        let resource = Resource {
            id: Some(ResourceId::random()),
            external_id: made.id,
            env: made.env,
            ..Resource::default()
        };
        let provider = ProviderRef { name: spec.name.to_owned(), url: spec.url.to_owned() };
        resources.push((provider, resource));
    }
    Ok(resources)
}

/// Whether a host has a planned job.
enum Presence {
    /// It never heard of it.
    Absent,
    /// It runs, or something the host restarted in its place does.
    Alive,
    /// It ended and nothing took its place.
    Ended,
}

async fn presence(client: &HostClient, job: &PlannedJob) -> Result<Presence, ActionError> {
    let asking = || call(format!("asking host {} for job {}", job.host, job.id));
    let found = match client.job(&job.id).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(Presence::Absent),
        Err(error) => return Err(asking()(error)),
    };
    if !found.status.has_ended() {
        return Ok(Presence::Alive);
    }
    let others = client.active_jobs().await.map_err(asking())?;
    let succeeds = |other: &ActiveJob| other.job.meta(META_PREDECESSOR) == Some(job.id.as_str());
    Ok(if others.values().any(succeeds) { Presence::Alive } else { Presence::Ended })
}

/// Starts a planned job, unless it is there, and waits until it runs.
async fn start(
    plan: &Plan,
    planned: &PlannedJob,
    host: &Host,
    timeout: Duration,
) -> Result<(), ActionError> {
    match presence(&host.client, planned).await? {
        Presence::Alive if !is_planned_running(host, planned).await? => return Ok(()),
        Presence::Alive => {}
        Presence::Absent | Presence::Ended => {
            make_volumes(plan, planned, &host.client).await?;
            add(&job_of(plan, planned)?, host, timeout).await?;
        }
    }
    until_running(plan, planned, host, timeout).await
}

/// Whether what lives is the planned job itself and not its successor.
async fn is_planned_running(host: &Host, planned: &PlannedJob) -> Result<bool, ActionError> {
    let active = host.client.active_jobs().await;
    let active = active.map_err(call(format!("listing the jobs of host {}", host.id)))?;
    Ok(active.contains_key(&planned.id))
}

fn job_of(plan: &Plan, planned: &PlannedJob) -> Result<Job, ActionError> {
    let builder = JobBuilder::new(&plan.app, &plan.release, &plan.artifacts)?;
    let binding = |volume: &PlannedVolume| VolumeBinding {
        target: volume.path.clone(),
        volume: volume.id.to_string(),
        writeable: true,
        delete_on_stop: volume.delete_on_stop,
    };
    let volumes = planned.volumes.iter().map(binding).collect();
    Ok(builder.formation_job(planned.id.clone(), &planned.process_type, volumes)?)
}

async fn make_volumes(
    plan: &Plan,
    planned: &PlannedJob,
    client: &HostClient,
) -> Result<(), ActionError> {
    for volume in &planned.volumes {
        let making = || call(format!("making volume {} on host {}", volume.id, planned.host));
        match client.volume(volume.id.as_str()).await {
            Ok(_) => continue,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(making()(error)),
        }
        let info = VolumeInfo {
            id: volume.id.to_string(),
            meta: volume_meta(plan, planned, volume),
            ..VolumeInfo::default()
        };
        client.create_volume(PROVIDER, &info).await.map_err(making())?;
    }
    Ok(())
}

fn volume_meta(
    plan: &Plan,
    planned: &PlannedJob,
    volume: &PlannedVolume,
) -> BTreeMap<String, String> {
    let text = |id: Option<String>| id.unwrap_or_default();
    [
        ("app", text(plan.app.id.as_ref().map(ToString::to_string))),
        ("release", text(plan.release.id.as_ref().map(ToString::to_string))),
        ("type", planned.process_type.clone()),
        ("path", volume.path.clone()),
        ("delete_on_stop", volume.delete_on_stop.to_string()),
    ]
    .map(|(key, value)| (format!("{}{key}", controller_api::META_PREFIX), value))
    .into()
}

/// Adds a job; a host that is busy starting others is asked again.
async fn add(job: &Job, host: &Host, timeout: Duration) -> Result<(), ActionError> {
    let give_up = Instant::now() + timeout;
    let mut pauses = Backoff::new(PAUSE, PAUSE_MAX, rand::random());
    loop {
        let error = match host.client.add_job(job).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let pause = pauses.next_delay();
        if !error.is_retryable() || Instant::now() + pause >= give_up {
            return Err(call(format!("adding job {} to host {}", job.id, host.id))(error));
        }
        tokio::time::sleep(pause).await;
    }
}

async fn until_running(
    plan: &Plan,
    planned: &PlannedJob,
    host: &Host,
    timeout: Duration,
) -> Result<(), ActionError> {
    let give_up = Instant::now() + timeout;
    let mut pauses = Backoff::new(PAUSE, PAUSE_MAX, rand::random());
    let process = || format!("{} {}", plan.app.name, planned.process_type);
    loop {
        let found = host.client.job(&planned.id).await;
        let last = match found {
            Ok(active) => match active.status {
                JobStatus::Running => return Ok(()),
                JobStatus::Starting => "it is starting".to_owned(),
                JobStatus::Done | JobStatus::Crashed | JobStatus::Failed => {
                    let (job, reason) = (planned.id.to_string(), reason(&active));
                    return Err(ActionError::JobEnded { job, process: process(), reason });
                }
            },
            Err(error) => error.to_string(),
        };
        let pause = pauses.next_delay();
        if Instant::now() + pause >= give_up {
            let what = format!("job {} of {} to start", planned.id, process());
            return Err(ActionError::TimedOut { what, seconds: timeout.as_secs(), last });
        }
        tokio::time::sleep(pause).await;
    }
}

fn reason(active: &ActiveJob) -> String {
    match (&active.error, active.exit_status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => format!("its program ended with status {status}"),
        (None, None) => format!("it is {}", active.status.as_str()),
    }
}
