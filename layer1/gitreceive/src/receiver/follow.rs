//! An app's events as one sequence: a stream that breaks is opened again after the last event seen, so
//! that a restart of the controller is not noticed by whoever waits for a deployment.

use std::time::Duration;

use controller_api::{Client, Event, EventFilter, EventStream, EventsFrom};
use kit_http::ClientError;
use tokio::time::Instant;

/// How long a broken stream is tried again.
const RECONNECT_FOR: Duration = Duration::from_secs(60);
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// Events that match a filter.
pub(super) struct Events<'a> {
    controller: &'a Client,
    filter: EventFilter,
    stream: EventStream,
}

impl<'a> Events<'a> {
    /// From now on, or from the beginning.
    pub(super) async fn open(
        controller: &'a Client,
        filter: EventFilter,
        from: EventsFrom,
    ) -> Result<Self, ClientError> {
        let stream = controller.stream_events(&filter, from).await?;
        Ok(Self { controller, filter, stream })
    }

    /// The next event, however long it takes.
    pub(super) async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            match self.stream.next_event().await {
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => tracing::debug!(%error, "the event stream broke"),
                None => {}
            }
            self.reopen().await?;
        }
    }

    async fn reopen(&mut self) -> Result<(), ClientError> {
        let give_up = Instant::now() + RECONNECT_FOR;
        loop {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            let from = self.stream.resume_from();
            match self.controller.stream_events(&self.filter, from).await {
                Ok(stream) => {
                    self.stream = stream;
                    return Ok(());
                }
                Err(error) if Instant::now() >= give_up => return Err(error),
                Err(_) => {}
            }
        }
    }
}
