//! `flynn release delete`.

use std::time::Duration;

use controller_api::{EventFilter, EventType, ReleaseDeletionEvent};
use tokio::time::Instant;

use crate::connection::{EventsEnd, Path};
use crate::context::Context;
use crate::failure::{Failure, Outcome};

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(yes: bool, id: &str, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    if !yes && !context.confirm(&format!("Are you sure you want to delete release {id:?}?"))? {
        return Ok(());
    }
    let filter = EventFilter::of_app(&app).types(&[EventType::ReleaseDeletion]).object(id);
    let mut events = controller.events(&filter, false).await?;
    controller.delete(Path::of(&["apps", &app, "releases", id])).await?;
    let event = match events.next(Some(Instant::now() + PATIENCE)).await {
        Ok(event) => event,
        Err(EventsEnd::TimedOut) => return Err(Failure::said("timed out waiting for release deletion")),
        Err(EventsEnd::Failed(failure)) => return Err(failure),
    };
    let told: ReleaseDeletionEvent = event.data_as().map_err(|error| Failure::said(error.to_string()))?;
    if !told.error.is_empty() {
        return Err(Failure::said(told.error));
    }
    let deletion = told.release_deletion.unwrap_or_default();
    match deletion.remaining_apps.map_or(0, |apps| apps.len()) {
        0 => {
            let files = deletion.deleted_files.map_or(0, |files| files.len());
            context.tell(format!("Deleted release {id} (deleted {files} files)"))
        }
        others => context.tell(format!(
            "Release scaled down for app but not fully deleted (still associated with {others} other apps)"
        )),
    }
}
