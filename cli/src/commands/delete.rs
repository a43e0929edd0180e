//! `flynn delete`: takes an app away with its routes, releases and resources.

use std::time::Duration;

use controller_api::{AppDeletion, AppDeletionEvent, EventFilter, EventType};
use tokio::time::Instant;

use crate::connection::{Controller, EventsEnd, Path};
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// How long the deletion may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Delete an app
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn delete [-y] [-r <remote>]")]
pub(crate) struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Name of the git remote to take away; empty for none
    #[arg(short, long, default_value = "flynn")]
    remote: String,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let target = context.target()?;
    let controller = Controller::of(&target.cluster)?;
    let app = target.app?;
    if !args.yes && !context.confirm(&format!("Are you sure you want to delete the app {app:?}?"))? {
        return Ok(());
    }
    let deletion = delete(&controller, &app).await?;
    let git = context.environment.git();
    if !args.remote.is_empty()
        && let Some(url) = git.remote_url(&args.remote)
        && target.cluster.app_of_remote(&url) == Some(app.as_str())
    {
        git.remove_remote(&args.remote)?;
    }
    context.tell(format!(
        "Deleted {app} (removed {} routes, deleted {} releases, deprovisioned {} resources)",
        deletion.deleted_routes.map_or(0, |routes| routes.len()),
        deletion.deleted_releases.map_or(0, |releases| releases.len()),
        deletion.deleted_resources.map_or(0, |resources| resources.len()),
    ))
}

/// The deletion is asynchronous: its end is an event, subscribed to before it is asked for.
async fn delete(controller: &Controller, app: &str) -> Result<AppDeletion, Failure> {
    let filter = EventFilter::of_app(app).types(&[EventType::AppDeletion]);
    let mut events = controller.events(&filter, false).await?;
    controller.delete(Path::of(&["apps", app])).await?;
    let event = match events.next(Some(Instant::now() + PATIENCE)).await {
        Ok(event) => event,
        Err(EventsEnd::TimedOut) => return Err(Failure::said("timed out waiting for app deletion")),
        Err(EventsEnd::Failed(failure)) => return Err(failure),
    };
    let told: AppDeletionEvent = event.data_as().map_err(|error| Failure::said(error.to_string()))?;
    if told.error.is_empty() { Ok(told.app_deletion.unwrap_or_default()) } else { Err(Failure::said(told.error)) }
}
