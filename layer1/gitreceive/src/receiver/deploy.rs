//! The deployment of a release, waited for to its end, and the first job of an app that never ran.

use std::time::Duration;

use controller_api::{
    DeploymentEvent, DeploymentStatus, EventFilter, EventType, EventsFrom, Job, JobState,
    ScaleRequest,
};
use kit_ids::ReleaseId;
use tokio::time::{Instant, timeout_at};

use super::follow::Events;
use super::{ReceiveError, Work};
use crate::server::chain;
use crate::terminal::Terminal;

/// How often a deployment is looked at, should its events not tell.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Seconds the first job has where the app states none.
const DEFAULT_TIMEOUT: i32 = 120;

/// Makes the release the app's current one, and waits until its jobs have replaced the old ones.
pub(super) async fn deploy(work: &Work<'_>, release: &ReleaseId) -> Result<(), ReceiveError> {
    let failed = |text: String| ReceiveError::Deploy(text);
    let app = work.target.id.as_str();
    let deployment = work.controller.deploy(app, release).await;
    let deployment = deployment.map_err(|error| failed(chain(&error)))?;
    if deployment.finished_at.is_some() {
        return Ok(());
    }
    let id = deployment.id.ok_or(ReceiveError::NoId)?;
    let filter = EventFilter::of_app(app).types(&[EventType::Deployment]).object(id.as_str());
    let events = Events::open(&work.controller, filter, EventsFrom::Beginning).await;
    let mut events = events.map_err(|error| failed(chain(&error)))?;
    loop {
        let (status, error) = match timeout_at(Instant::now() + LOOK_AGAIN, events.next()).await {
            Ok(Ok(event)) => {
                let told: DeploymentEvent = event.data_as().unwrap_or_default();
                (told.status, told.error)
            }
            Ok(Err(error)) => return Err(failed(chain(&error))),
            Err(_) => match work.controller.deployment(&id).await {
                Ok(deployment) => (deployment.status, "the deployment failed".to_owned()),
                Err(error) if error.is_not_found() => return Err(failed(chain(&error))),
                Err(_) => (None, String::new()),
            },
        };
        match status {
            Some(DeploymentStatus::Complete) => return Ok(()),
            Some(DeploymentStatus::Failed) => return Err(failed(error)),
            Some(DeploymentStatus::Pending | DeploymentStatus::Running) | None => {}
        }
    }
}

/// One web job, waited for; an app whose first job does not start is left without any.
pub(super) async fn scale_first(
    work: &Work<'_>,
    release: &ReleaseId,
    terminal: &mut Terminal,
) -> Result<(), ReceiveError> {
    terminal.say("=====> Scaling initial release to web=1").await;
    terminal.say("-----> Waiting for initial web job to start...").await;
    let Err(text) = first_job(work, release).await else {
        terminal.say("=====> Initial web job started").await;
        return Ok(());
    };
    terminal.say("-----> WARN: scaling initial release down to web=0 due to error").await;
    let deleted = work.controller.delete_formation(work.target.id.as_str(), release).await;
    if let Err(error) = deleted {
        let why = chain(&error);
        let text = "could not scale the initial release down (it may continue to run)";
        terminal.say(&format!("-----> WARN: {text}: {why}")).await;
    }
    Err(ReceiveError::FirstJob(text))
}

fn is_web_of(job: &Job, release: &ReleaseId) -> bool {
    job.release.as_ref() == Some(release) && job.process_type == "web"
}

/// Asks for the job and waits until it is up.
async fn first_job(work: &Work<'_>, release: &ReleaseId) -> Result<(), String> {
    let app = work.target.id.as_str();
    let filter = EventFilter::of_app(app).types(&[EventType::Job]);
    let events = Events::open(&work.controller, filter, EventsFrom::Now).await;
    let mut events = events.map_err(|error| chain(&error))?;
    let wanted = [("web".to_owned(), 1)].into();
    let request = ScaleRequest::pending(Some(wanted), None);
    let asked = work.controller.put_scale(app, release, &request).await;
    asked.map_err(|error| chain(&error))?;
    // One that is up already is told by no event.
    let jobs = work.controller.jobs(app).await.map_err(|error| chain(&error))?;
    if jobs.iter().any(|job| is_web_of(job, release) && job.state == Some(JobState::Up)) {
        return Ok(());
    }
    let seconds = Some(work.target.app.deploy_timeout).filter(|seconds| *seconds > 0);
    let seconds = u64::try_from(seconds.unwrap_or(DEFAULT_TIMEOUT)).unwrap_or_default();
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let event = timeout_at(deadline, events.next()).await;
        let event = event
            .map_err(|_| format!("timed out after {seconds} s waiting for the initial web job"))?;
        let event = event.map_err(|error| chain(&error))?;
        let job: Job = event.data_as().unwrap_or_default();
        if job.release.as_ref() != Some(release) {
            continue;
        }
        match job.state {
            Some(JobState::Up) if job.process_type == "web" => return Ok(()),
            Some(JobState::Down | JobState::Crashed | JobState::Failed) => {
                let why = job.host_error.map(|error| format!(": {error}")).unwrap_or_default();
                return Err(format!("Initial web job failed to start{why}"));
            }
            Some(
                JobState::Up
                | JobState::Pending
                | JobState::Starting
                | JobState::Stopping
                | JobState::Blocked,
            )
            | None => {}
        }
    }
}
