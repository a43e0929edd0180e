//! The time between a scale request and its completion: one line for each step of a job.

use std::time::Duration;

use controller_api::{Event, EventFilter, EventType, Job, Release, ScaleRequest, ScaleState};
use tokio::time::Instant;

use crate::commands::ps::shown_id;
use crate::connection::{Controller, Events, EventsEnd};
use crate::context::Context;
use crate::failure::{Failure, Outcome};

const PATIENCE: Duration = Duration::from_secs(30);

/// Opens the stream before the request is sent, so that nothing is missed.
pub(super) async fn subscribe(controller: &Controller, app: &str) -> Result<Events, Failure> {
    let types = [EventType::Job, EventType::ScaleRequest, EventType::ScaleRequestCancelation];
    controller.events(&EventFilter::of_app(app).types(&types), false).await
}

/// Prints the release's job events until the scheduler reports the request complete.
pub(super) async fn until_complete(
    mut events: Events,
    request: &ScaleRequest,
    release: &Release,
    context: &mut Context<'_>,
) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let event = match events.next(Some(deadline)).await {
            Ok(event) => event,
            Err(EventsEnd::TimedOut) => {
                let waited = PATIENCE.as_secs();
                return Err(Failure::said(format!(
                    "timed out waiting for scale to complete (waited {waited} seconds)"
                )));
            }
            Err(EventsEnd::Failed(failure)) => return Err(failure),
        };
        match event.object_type {
            Some(EventType::Job) => tell_job(&event, release, context)?,
            Some(EventType::ScaleRequest | EventType::ScaleRequestCancelation) => {
                if is_complete(&event, request)? {
                    return Ok(());
                }
            }
            Some(_) | None => {}
        }
    }
}

fn tell_job(event: &Event, release: &Release, context: &mut Context<'_>) -> Outcome {
    let Ok(job) = event.data_as::<Job>() else { return Ok(()) };
    if job.release != release.id {
        return Ok(());
    }
    let time = chrono::Local::now().format("%H:%M:%S%.3f");
    let state = job.state.map(|state| state.to_string()).unwrap_or_default();
    context.say(format!("{time} ==> {} {} {state}", job.process_type, shown_id(&job)))
}

fn is_complete(event: &Event, request: &ScaleRequest) -> Result<bool, Failure> {
    let Ok(told) = event.data_as::<ScaleRequest>() else { return Ok(false) };
    if told.id.is_none() || told.id != request.id {
        return Ok(false);
    }
    match told.state {
        Some(ScaleState::Complete) => Ok(true),
        Some(ScaleState::Cancelled) => Err(Failure::said("scale request cancelled")),
        Some(ScaleState::Pending) | None => Ok(false),
    }
}
