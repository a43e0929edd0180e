//! Streams: events, and formations as they change. A stream that ends is opened again by its reader,
//! who knows what to read anew; events resume after the last id seen.

use kit_http::{ClientError, Request, SseError};

use super::{Client, path::with_query};
use crate::{Event, EventFilter, ExpandedFormation, Timestamp};

/// Where a stream of events begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsFrom {
    /// Only what happens from now on.
    Now,
    /// What is stored, oldest first, then what happens.
    Beginning,
    /// The newest so many that are stored, then what happens.
    Last(u32),
    /// What came after this event, then what happens.
    After(i64),
}

/// Events as they happen.
#[derive(Debug)]
pub struct EventStream {
    stream: kit_http::EventStream,
    last: EventsFrom,
}

impl EventStream {
    /// The next event; none when the controller ended the stream.
    pub async fn next_event(&mut self) -> Option<Result<Event, SseError>> {
        let event = self.stream.next_json::<Event>().await?;
        if let Ok(event) = &event {
            self.last = EventsFrom::After(event.id);
        }
        Some(event)
    }

    /// Where to open the next stream so that nothing is missed or seen twice.
    pub fn resume_from(&self) -> EventsFrom {
        self.last
    }
}

/// Formations as they change.
#[derive(Debug)]
pub struct FormationStream {
    stream: kit_http::EventStream,
}

impl FormationStream {
    /// The next formation, or the [sentinel](ExpandedFormation::is_sentinel) between what exists and
    /// what happens; none when the controller ended the stream.
    pub async fn next_formation(&mut self) -> Option<Result<ExpandedFormation, SseError>> {
        self.stream.next_json().await
    }
}

impl Client {
    /// Stored events, the newest first: at most `count`, or all.
    pub async fn events(
        &self,
        filter: &EventFilter,
        count: Option<u32>,
    ) -> Result<Vec<Event>, ClientError> {
        let mut query = filter.query();
        query.extend(count.map(|count| ("count", count.to_string())));
        self.http.get_json(&with_query("/events", &query)).await
    }

    /// One event.
    pub async fn event(&self, id: i64) -> Result<Event, ClientError> {
        self.http.get_json(&format!("/events/{id}")).await
    }

    /// Events as they happen.
    pub async fn stream_events(
        &self,
        filter: &EventFilter,
        from: EventsFrom,
    ) -> Result<EventStream, ClientError> {
        let mut query = filter.query();
        let mut last_id = "0".to_owned();
        match from {
            EventsFrom::Now => {}
            EventsFrom::Beginning => query.push(("past", "true".to_owned())),
            EventsFrom::Last(count) => {
                query.push(("past", "true".to_owned()));
                query.push(("count", count.to_string()));
            }
            EventsFrom::After(id) => {
                last_id = id.to_string();
                // An id of 0 alone would mean "from now on".
                query.push(("past", "true".to_owned()));
            }
        }
        let stream = self.http.events(&with_query("/events", &query), Some(&last_id)).await?;
        Ok(EventStream { stream, last: from })
    }

    /// Formations changed since a time, then a sentinel, then formations as they change.
    pub async fn stream_formations(
        &self,
        since: Timestamp,
    ) -> Result<FormationStream, ClientError> {
        let url = with_query("/formations", &[("since", since.to_string())]);
        let stream = self.http.events_of(Request::get(&url)).await?;
        Ok(FormationStream { stream })
    }
}
