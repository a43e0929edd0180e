//! What a router's `GET /events` sends: routes it began or ceased to serve, and backends as they
//! come, go and finish their last request. The scheduler waits on the backend events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Route;

/// Something a router did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub enum Event {
    /// A route is served from now on, new or changed. Its certificate is left out.
    Set(Box<Route>),
    /// A route is not served any more.
    Remove(Box<Route>),
    /// New requests may go to this backend.
    BackendUp(Backend),
    /// No new request goes to this backend.
    BackendDown(Backend),
    /// The last request of a backend that went down has ended.
    BackendDrained(Backend),
}

impl Event {
    /// The name it goes by in the `types` query of `/events`.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Set(_) => EventKind::Set,
            Self::Remove(_) => EventKind::Remove,
            Self::BackendUp(_) => EventKind::BackendUp,
            Self::BackendDown(_) => EventKind::BackendDown,
            Self::BackendDrained(_) => EventKind::BackendDrained,
        }
    }

    /// The route of a `set` or `remove`.
    pub fn route(&self) -> Option<&Route> {
        match self {
            Self::Set(route) | Self::Remove(route) => Some(route),
            Self::BackendUp(_) | Self::BackendDown(_) | Self::BackendDrained(_) => None,
        }
    }

    /// The backend of a `backend-…` event.
    pub fn backend(&self) -> Option<&Backend> {
        match self {
            Self::Set(_) | Self::Remove(_) => None,
            Self::BackendUp(b) | Self::BackendDown(b) | Self::BackendDrained(b) => Some(b),
        }
    }
}

/// An instance of a routed service, as a router sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Backend {
    /// The discovery service.
    pub service: String,
    /// `host:port`.
    pub addr: String,
    /// The instance's meta `FLYNN_APP_NAME`; empty without it.
    #[serde(default)]
    pub app: String,
    /// The instance's meta `FLYNN_JOB_ID`; empty without it.
    #[serde(default)]
    pub job_id: String,
}

/// The kinds of [`Event`], by their wire names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// [`Event::Set`]
    Set,
    /// [`Event::Remove`]
    Remove,
    /// [`Event::BackendUp`]
    BackendUp,
    /// [`Event::BackendDown`]
    BackendDown,
    /// [`Event::BackendDrained`]
    BackendDrained,
}

impl EventKind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 5] =
        [Self::Set, Self::Remove, Self::BackendUp, Self::BackendDown, Self::BackendDrained];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Remove => "remove",
            Self::BackendUp => "backend-up",
            Self::BackendDown => "backend-down",
            Self::BackendDrained => "backend-drained",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no kind of event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no router event: use set, remove, backend-up, backend-down or backend-drained")]
pub struct UnknownEventKind(pub String);

impl FromStr for EventKind {
    type Err = UnknownEventKind;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| UnknownEventKind(text.to_owned()))
    }
}

/// The JSON form: one object for all kinds.
#[derive(Serialize, Deserialize)]
struct Wire {
    event: EventKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route: Option<Box<Route>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backend: Option<Backend>,
}

impl From<Event> for Wire {
    fn from(event: Event) -> Self {
        let kind = event.kind();
        let (route, backend) = match event {
            Event::Set(route) | Event::Remove(route) => (Some(route), None),
            Event::BackendUp(b) | Event::BackendDown(b) | Event::BackendDrained(b) => {
                (None, Some(b))
            }
        };
        Self { event: kind, route, backend }
    }
}

/// An event object without the part its kind promises.
#[derive(Debug, thiserror::Error)]
#[error("a {0} event must carry a {1}")]
struct Incomplete(EventKind, &'static str);

impl TryFrom<Wire> for Event {
    type Error = Incomplete;
    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        let kind = wire.event;
        let route = wire.route.ok_or(Incomplete(kind, "route"));
        let backend = wire.backend.ok_or(Incomplete(kind, "backend"));
        match kind {
            EventKind::Set => route.map(Self::Set),
            EventKind::Remove => route.map(Self::Remove),
            EventKind::BackendUp => backend.map(Self::BackendUp),
            EventKind::BackendDown => backend.map(Self::BackendDown),
            EventKind::BackendDrained => backend.map(Self::BackendDrained),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_documented_form() {
        for json in [
            r#"{"event":"backend-up","backend":{"service":"demo-web","addr":"100.100.32.5:8080","app":"demo","job_id":"host0-0f0e0d0c-1111-4222-8333-abcdefabcdef"}}"#,
            r#"{"event":"backend-down","backend":{"service":"q","addr":"10.0.0.1:80","app":"","job_id":""}}"#,
            r#"{"event":"backend-drained","backend":{"service":"q","addr":"10.0.0.1:80","app":"","job_id":""}}"#,
            r#"{"event":"set","route":{"type":"http","id":"0f0e0d0c-1111-4222-8333-abcdefabcdef","parent_ref":"controller/apps/0f0e0d0c-1111-4222-8333-abcdefabcdee","service":"q","leader":false,"created_at":"2026-11-21T04:45:00.1Z","updated_at":"2026-11-21T04:45:00.1Z","domain":"q2.example.com","path":"/"}}"#,
            r#"{"event":"remove","route":{"type":"tcp","service":"q","port":3000,"leader":true,"created_at":"0001-01-01T00:00:00Z","updated_at":"0001-01-01T00:00:00Z"}}"#,
        ] {
            let event: Event = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&event).unwrap(), json);
            assert_eq!(event.kind().as_str().parse(), Ok(event.kind()));
            assert_eq!(event.route().is_some(), event.backend().is_none());
        }
    }

    #[test]
    fn an_event_without_its_subject_is_refused() {
        for json in [r#"{"event":"set"}"#, r#"{"event":"backend-up"}"#, r#"{"event":"x"}"#] {
            assert!(serde_json::from_str::<Event>(json).is_err(), "{json}");
        }
        assert!("backend".parse::<EventKind>().is_err());
    }
}
