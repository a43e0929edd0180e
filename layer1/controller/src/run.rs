//! One-off jobs: placed by the rules of all jobs, on the next host when one refuses, attached to where
//! that was asked for; and the end of any job by its id. The record of a job appears once the scheduler hears of it from the host.

use axum::extract::{FromRequest as _, Path, Request, State};
use axum::response::{IntoResponse, Response};
use controller_api::{
    App, Artifact, Job, JobBuilder, JobUuid, META_APP, META_RELEASE, NewJob, Partition, Release,
};
use host_api::{HostClient, VolumeBinding, VolumeInfo};
use http::header::UPGRADE;
use kit_http::{ApiError, ClientError, ErrorCode, Json, accept_upgrade};
use kit_ids::JobId;
use kit_pg::GenericClient;
use kit_units::{Bytes, Millicpu};
use serde_json::Value;

use crate::attached::Attached;
use crate::failure::{Answer, Failure};
use crate::hosts::Host;
use crate::server::Controller;
use crate::{apps, artifacts, check, jobs, releases};

/// `POST /apps/A/jobs`
pub(crate) async fn run(
    State(controller): State<Controller>,
    Path(app): Path<String>,
    mut request: Request,
) -> Answer<Response> {
    let upgrade = request.headers().get(UPGRADE).is_some_and(|value| {
        value.as_bytes().eq_ignore_ascii_case(host_api::UPGRADE_PROTOCOL.as_bytes())
    });
    let (switching, request) = if upgrade {
        let accepted = accept_upgrade(&mut request, host_api::UPGRADE_PROTOCOL);
        (Some(accepted), request)
    } else {
        (None, request)
    };
    let Json(body) = Json::<Value>::from_request(request, &()).await?;
    let new_job = read(body)?;
    let what = Wanted::find(&controller, &app, new_job).await?;
    let (job, started) = place(&controller, &what, switching.is_some()).await?;
    match (switching, started) {
        (Some((response, upgrading)), Started::Attached(attached)) => {
            attached.relay(controller.tasks(), upgrading);
            Ok(response)
        }
        (_, Started::Attached(_) | Started::Detached) => detached(&job, &what),
    }
}

/// A job that its host took.
enum Started {
    Attached(Box<Attached>),
    Detached,
}

/// Why a host did not start a job.
pub(crate) enum NotStarted {
    /// It certainly does not run there: another host may take it.
    Refused(Failure),
    /// Nobody would take it, or it may run.
    Failed(Failure),
}

impl From<Failure> for NotStarted {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Starts the job on the best host, on the next one when that refuses, until none is left.
async fn place(
    controller: &Controller,
    what: &Wanted,
    attach: bool,
) -> Answer<(host_api::Job, Started)> {
    let hosts = controller.hosts().offers().await?;
    let mut offers = hosts.iter().map(|(id, (_, offer))| (id.clone(), offer.clone())).collect();
    let mut refusal = None;
    loop {
        let chosen = placement::choose(&offers, &what.process()?);
        let (id, (host, _)) = match chosen.map(|id| hosts.get_key_value(&id)) {
            Ok(Some(host)) => host,
            Ok(None) => return Err(ApiError::unknown().into()),
            Err(why) => {
                let full = || ApiError::service_unavailable(format!("schedule failed: {why}"));
                return Err(refusal.unwrap_or_else(|| full().into()));
            }
        };
        let job = what.build(JobId::random(id), attach)?;
        match start(host, job, what, attach).await {
            Ok(started) => return Ok(started),
            Err(NotStarted::Failed(failure)) => return Err(failure),
            Err(NotStarted::Refused(failure)) => {
                tracing::info!(app = %what.app.name, host = %id, ?failure, "host refused a job");
                offers.remove(id);
                refusal = Some(failure);
            }
        }
    }
}

async fn start(
    host: &Host,
    mut job: host_api::Job,
    what: &Wanted,
    attach: bool,
) -> Result<(host_api::Job, Started), NotStarted> {
    let mut volume = None;
    if what.request.data {
        let made = data_volume(&host.client, what, &job).await.map_err(NotStarted::Refused)?;
        volume = Some(made.volume.clone());
        job.config.volumes.push(made);
    }
    let started = if attach {
        let attached = Attached::start(&host.client, &job, &what.request).await;
        attached.map(|attached| Started::Attached(Box::new(attached)))
    } else {
        add(&host.client, &job).await.map(|()| Started::Detached)
    };
    let unused = volume.filter(|_| matches!(started, Err(NotStarted::Refused(_))));
    if let Some(volume) = unused
        && let Err(error) = host.client.destroy_volume(&volume).await
    {
        tracing::warn!(host = %host.id, volume, %error, "volume of a refused job is left over");
    }
    Ok((job, started?))
}

/// `DELETE /apps/X/jobs/:id`
pub(crate) async fn kill(
    State(controller): State<Controller>,
    Path((_, id)): Path<(String, String)>,
) -> Answer<()> {
    let job = jobs::find(&controller.client().await?, &id).await?;
    let (Some(id), Some(host)) = (job.id, job.host_id) else {
        return Err(Failure::invalid("cannot kill a job which has not been placed on a host"));
    };
    let Some(host) = controller.hosts().find(&host).await? else {
        return Err(ApiError::conflict(format!("host {host} is not in the cluster")).into());
    };
    host.client
        .stop_job(&id)
        .await
        .map_err(|error| from_host(&error, "the job could not be stopped"))
}

/// Everything that makes up the job.
struct Wanted {
    app: App,
    release: Release,
    artifacts: Vec<Artifact>,
    request: NewJob,
}

impl Wanted {
    async fn find(controller: &Controller, app: &str, request: NewJob) -> Answer<Self> {
        let client = controller.client().await?;
        let app = apps::find(&client, app).await?;
        let release = request.release.as_ref().map_or("", |id| id.as_str());
        let release = releases::find(&client, release).await?;
        let artifacts =
            Self::artifacts(&client, &request, release.id.as_ref().map_or("", |id| id.as_str()))
                .await?;
        if artifacts.is_empty() {
            return Err(Failure::field("release.ArtifactIDs", "cannot be empty"));
        }
        Ok(Self { app, release, artifacts, request })
    }

    async fn artifacts(
        db: &impl GenericClient,
        request: &NewJob,
        release: &str,
    ) -> Answer<Vec<Artifact>> {
        if request.artifacts.is_empty() {
            return artifacts::of_release(db, release).await;
        }
        let mut found = Vec::with_capacity(request.artifacts.len());
        for id in &request.artifacts {
            found.push(artifacts::find(db, id).await.map_err(|failure| match failure {
                Failure::NotFound => Failure::field("artifacts", format!("{id} does not exist")),
                failure @ Failure::Api(_) => failure,
            })?);
        }
        Ok(found)
    }

    /// What the job asks of a host, in the planner's form.
    fn process(&self) -> Answer<placement::Process> {
        let any: kit_ids::HostId = "any".parse().map_err(|error| Failure::internal(&error))?;
        let (memory, cpu) =
            controller_api::reserved(&self.build(JobId::random(&any), false)?.resources);
        let reservation = placement::Reservation { memory: Bytes(memory), cpu: Millicpu(cpu) };
        Ok(placement::Process { reservation, ..placement::Process::default() })
    }

    fn build(&self, id: JobId, attached: bool) -> Answer<host_api::Job> {
        let built = JobBuilder::new(&self.app, &self.release, &self.artifacts)
            .and_then(|builder| builder.one_off_job(id, &self.request, attached));
        built.map_err(|error| Failure::invalid(error.to_string()))
    }
}

fn read(body: Value) -> Answer<NewJob> {
    let body = check::object(body)?;
    check::required(&body, "release")?;
    let partitions = check::names(Partition::ALL, Partition::as_str);
    check::one_of(&body, "partition", &partitions)?;
    check::read(body)
}

fn detached(job: &host_api::Job, what: &Wanted) -> Answer<Response> {
    let uuid = JobUuid::try_from(&job.id).map_err(|error| Failure::internal(&error))?;
    Ok(Json(Job {
        id: Some(job.id.clone()),
        uuid: Some(uuid),
        host_id: job.id.host_part().parse().ok(),
        release: what.release.id.clone(),
        args: job.config.args.clone(),
        ..Job::default()
    })
    .into_response())
}

pub(crate) async fn add(host: &HostClient, job: &host_api::Job) -> Result<(), NotStarted> {
    let Err(error) = host.add_job(job).await else { return Ok(()) };
    let failure = from_host(&error, "schedule failed");
    match error.api_code() {
        // No host would take it.
        Some(ErrorCode::Validation | ErrorCode::Syntax) => Err(NotStarted::Failed(failure)),
        Some(_) => Err(NotStarted::Refused(failure)),
        // It may have heard.
        None => Err(NotStarted::Failed(failure)),
    }
}

/// A volume for `data`, which goes with the job.
async fn data_volume(
    host: &HostClient,
    what: &Wanted,
    job: &host_api::Job,
) -> Answer<VolumeBinding> {
    let meta = [META_APP, META_RELEASE]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), job.meta(key)?.to_owned())));
    let info =
        VolumeInfo { kind: "data".to_owned(), meta: meta.collect(), ..VolumeInfo::default() };
    let made = host.create_volume("default", &info).await;
    let made = made.map_err(|error| from_host(&error, "the volume could not be made"))?;
    tracing::debug!(app = %what.app.name, volume = %made.id, "volume for a one-off job");
    Ok(VolumeBinding {
        target: "/data".to_owned(),
        volume: made.id,
        writeable: true,
        delete_on_stop: true,
    })
}

/// A host's refusal is the caller's to know; a host that cannot be reached may be there later.
pub(crate) fn from_host(error: &ClientError, what: &str) -> Failure {
    match error.api() {
        Some(refusal) => {
            let text = format!("{what}: {}", refusal.message);
            ApiError { message: text, code: kit_http::ErrorCode::Conflict, ..refusal.clone() }
                .into()
        }
        None => {
            tracing::warn!(%error, "host call failed");
            ApiError::service_unavailable(format!("{what}: the host cannot be reached")).into()
        }
    }
}
