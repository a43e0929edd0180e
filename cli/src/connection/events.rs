//! The controller's events as one sequence: a stream that breaks is opened again after the last event
//! seen, so that a restart of the controller is not noticed by whoever waits for a deployment.

use std::time::Duration;

use controller_api::{Event, EventFilter};
use kit_http::{EventStream, Request, SseError};
use tokio::time::{Instant, timeout_at};

use super::{Controller, Path};
use crate::failure::Failure;

/// How long a broken stream is tried again.
const RECONNECT_FOR: Duration = Duration::from_secs(20);
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Events that match a filter.
pub(crate) struct Events {
    controller: Controller,
    path: Path,
    stream: EventStream,
    last_id: i64,
}

/// Why there is no next event.
#[derive(Debug)]
pub(crate) enum EventsEnd {
    /// The deadline has passed.
    TimedOut,
    /// The stream broke and did not come back.
    Failed(Failure),
}

impl Controller {
    /// Opens a stream of events. With `past`, those that were stored before come first.
    pub(crate) async fn events(&self, filter: &EventFilter, past: bool) -> Result<Events, Failure> {
        let mut path = Path::of(&["events"]);
        for (key, value) in filter.query() {
            path = path.with(key, &value);
        }
        if past {
            path = path.with("past", "true");
        }
        let stream = open(self, &path, 0).await?;
        Ok(Events { controller: self.clone(), path, stream, last_id: 0 })
    }
}

impl Events {
    /// The next event, if it comes before the deadline.
    pub(crate) async fn next(&mut self, deadline: Option<Instant>) -> Result<Event, EventsEnd> {
        match deadline {
            None => self.next_event().await,
            Some(deadline) => {
                timeout_at(deadline, self.next_event()).await.unwrap_or(Err(EventsEnd::TimedOut))
            }
        }
    }

    async fn next_event(&mut self) -> Result<Event, EventsEnd> {
        loop {
            match self.stream.next_json::<Event>().await {
                Some(Ok(event)) if event.id != 0 && event.id <= self.last_id => {}
                Some(Ok(event)) => {
                    self.last_id = event.id;
                    return Ok(event);
                }
                Some(Err(error)) => self.reopen(Some(error)).await?,
                None => self.reopen(None).await?,
            }
        }
    }

    async fn reopen(&mut self, why: Option<SseError>) -> Result<(), EventsEnd> {
        let why = why.map(|error| error.to_string());
        tracing::debug!(why, "event stream ended, opening it again");
        let give_up = Instant::now() + RECONNECT_FOR;
        loop {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            match open(&self.controller, &self.path, self.last_id).await {
                Ok(stream) => {
                    self.stream = stream;
                    return Ok(());
                }
                Err(error) if Instant::now() >= give_up => return Err(EventsEnd::Failed(error)),
                Err(_) => {}
            }
        }
    }
}

async fn open(controller: &Controller, path: &Path, last_id: i64) -> Result<EventStream, Failure> {
    let name = http::HeaderName::from_static("last-event-id");
    let request = Request::get(path.as_str()).header(name, &last_id.to_string())?;
    Ok(controller.http.events_of(request).await?)
}
