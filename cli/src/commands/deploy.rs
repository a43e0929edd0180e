//! A changed release becomes the app's: created, deployed, waited for. Used by every command that
//! changes what an app runs.

use std::time::Duration;

use controller_api::{
    App, Deployment, DeploymentEvent, DeploymentStatus, EventFilter, EventType, Release,
};
use kit_ids::ReleaseId;
use serde::Serialize;

use crate::connection::{Controller, Events, EventsEnd, Path};
use crate::failure::Failure;

/// How often a deployment is looked at, should its events not tell.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct DeployRequest<'a> {
    id: &'a ReleaseId,
}

/// The app's current release, if it has one.
pub(super) async fn current(
    controller: &Controller,
    app: &str,
) -> Result<Option<Release>, Failure> {
    controller.find(Path::of(&["apps", app, "release"])).await
}

/// The release of that id, or the app's current one.
pub(super) async fn chosen(
    controller: &Controller,
    app: &str,
    id: Option<&str>,
) -> Result<Option<Release>, Failure> {
    match id {
        Some(id) => controller.get(Path::of(&["releases", id])).await.map(Some),
        None => current(controller, app).await,
    }
}

/// Creates a copy of `release` for the app and makes it current.
pub(super) async fn create_and_deploy(
    controller: &Controller,
    app: &str,
    release: Release,
) -> Result<ReleaseId, Failure> {
    let id = create(controller, app, release).await?;
    deploy(controller, app, &id).await?;
    Ok(id)
}

/// Creates a copy of `release` for the app.
pub(super) async fn create(
    controller: &Controller,
    app: &str,
    release: Release,
) -> Result<ReleaseId, Failure> {
    let owner: App = controller.get(Path::of(&["apps", app])).await?;
    let new = Release { id: None, app_id: owner.id, artifact: None, ..release };
    let created: Release = controller.post(Path::of(&["releases"]), &new).await?;
    created.id.ok_or_else(|| Failure::said("the controller answered a release without an id"))
}

/// Makes a release current and waits until its jobs have replaced the old ones.
pub(super) async fn deploy(
    controller: &Controller,
    app: &str,
    release: &ReleaseId,
) -> Result<(), Failure> {
    let deployment: Deployment =
        controller.post(Path::of(&["apps", app, "deploy"]), &DeployRequest { id: release }).await?;
    if deployment.finished_at.is_some() {
        return Ok(());
    }
    let Some(id) = deployment.id.map(|id| id.to_string()) else {
        return Err(Failure::said("the controller answered a deployment without an id"));
    };
    let filter = EventFilter::of_app(app).types(&[EventType::Deployment]).object(&id);
    let mut events = controller.events(&filter, true).await?;
    while !is_over(controller, &mut events, &id).await? {}
    Ok(())
}

/// Waits for one more event, or looks at the deployment itself.
async fn is_over(controller: &Controller, events: &mut Events, id: &str) -> Result<bool, Failure> {
    match events.next(Some(tokio::time::Instant::now() + LOOK_AGAIN)).await {
        Ok(event) => {
            let told: DeploymentEvent = event.data_as().unwrap_or_default();
            verdict(told.status, &told.error)
        }
        Err(EventsEnd::TimedOut) => {
            let deployment: Deployment = controller.get(Path::of(&["deployments", id])).await?;
            verdict(deployment.status, "deployment failed")
        }
        Err(EventsEnd::Failed(failure)) => Err(failure),
    }
}

fn verdict(status: Option<DeploymentStatus>, error: &str) -> Result<bool, Failure> {
    match status {
        Some(DeploymentStatus::Complete) => Ok(true),
        Some(DeploymentStatus::Failed) => Err(Failure::said(error)),
        Some(DeploymentStatus::Pending | DeploymentStatus::Running) | None => Ok(false),
    }
}
