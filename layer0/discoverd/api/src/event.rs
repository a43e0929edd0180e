//! What a subscriber of a service is told.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Instance, ServiceMeta};

/// One record of an event stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The service it is about.
    pub service: String,
    /// What happened.
    pub kind: EventKind,
    /// The instance it happened to. A leader event without one says that nobody leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// The new metadata, for [`EventKind::ServiceMeta`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_meta: Option<ServiceMeta>,
}

impl Event {
    /// The marker after the picture of the present; what follows it is news.
    pub fn current(service: &str) -> Self {
        Self {
            service: service.to_owned(),
            kind: EventKind::Current,
            instance: None,
            service_meta: None,
        }
    }

    /// An event about an instance.
    pub fn about(service: &str, kind: EventKind, instance: Instance) -> Self {
        Self { service: service.to_owned(), kind, instance: Some(instance), service_meta: None }
    }

    /// A change of leader.
    pub fn leader(service: &str, instance: Option<Instance>) -> Self {
        Self { service: service.to_owned(), kind: EventKind::Leader, instance, service_meta: None }
    }

    /// New metadata.
    pub fn meta(service: &str, meta: ServiceMeta) -> Self {
        let kind = EventKind::ServiceMeta;
        Self { service: service.to_owned(), kind, instance: None, service_meta: Some(meta) }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A new instance.
    Up,
    /// A known instance with other metadata.
    Update,
    /// An instance left or its heartbeats stopped.
    Down,
    /// The service has another leader, or none.
    Leader,
    /// All that is known has been told.
    Current,
    /// The service has new metadata.
    ServiceMeta,
    /// A kind this client does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Update => "update",
            Self::Down => "down",
            Self::Leader => "leader",
            Self::Current => "current",
            Self::ServiceMeta => "service_meta",
            Self::Unknown => "unknown",
        })
    }
}
