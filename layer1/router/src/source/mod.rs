//! Where routes and backends come from, seen from the router: two traits, and their followers that
//! start over whenever a source ends.

mod controller;
mod discovery;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use kit_ids::RouteId;
use router_api::Route;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use controller::ControllerRoutes;
pub use discovery::{Discovery, Registration};

/// A source's work until its stream ends.
pub type Following<'a> = Pin<Box<dyn Future<Output = Result<(), SourceError>> + Send + 'a>>;

/// Where routes come from.
pub trait RouteSource: Send + Sync + fmt::Debug {
    /// Sends the whole list first, then every change, until the stream breaks.
    fn follow(&self, updates: mpsc::Sender<RouteUpdate>) -> Following<'_>;
}

/// Where a service's backends come from.
pub trait BackendSource: Send + Sync + fmt::Debug {
    /// Sends the complete state of the service at each change, the first time as soon as it is
    /// known, until the stream breaks.
    fn follow(&self, service: String, updates: mpsc::Sender<Instances>) -> Following<'_>;
}

/// News about routes.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteUpdate {
    /// These are all routes.
    All(Vec<Route>),
    /// A route is new or changed.
    Set(Box<Route>),
    /// A route was deleted.
    Remove(RouteId),
}

/// The state of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances {
    /// All registered instances.
    pub backends: Vec<Instance>,
    /// The leader's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
}

/// A registered instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// `host:port`.
    pub addr: String,
    /// The app's name, or empty.
    #[serde(default)]
    pub app: String,
    /// The job's id, or empty.
    #[serde(default)]
    pub job: String,
}

impl Instances {
    /// Instances that only have addresses.
    pub fn at<'a>(addrs: impl IntoIterator<Item = &'a str>) -> Self {
        let instance =
            |addr: &str| Instance { addr: addr.to_owned(), app: String::new(), job: String::new() };
        Self { backends: addrs.into_iter().map(instance).collect(), leader: None }
    }
}

/// Why a source's stream ended.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SourceError {
    /// What was being done.
    pub what: &'static str,
    /// What went wrong with it; nothing when the other side just ended the stream.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SourceError {
    /// Something failed.
    pub fn new(
        what: &'static str,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { what, cause: Some(cause.into()) }
    }

    /// The other side ended the stream.
    pub fn ended(what: &'static str) -> Self {
        Self { what, cause: None }
    }

    /// The message with those of all causes.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
