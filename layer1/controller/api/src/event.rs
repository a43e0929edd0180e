//! Events: what the controller tells about every change, and how a stream of them is narrowed.

use kit_ids::AppId;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::wire::{absent, blank_as_none, lenient};

/// One change, written in the transaction that made it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Grows with every event; what a stream is resumed from.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub id: i64,
    /// The app it is about, if it is about one.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub app: Option<AppId>,
    /// What kind of object changed.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub object_type: Option<EventType>,
    /// Which object changed.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub object_id: String,
    /// The object after the change; see [`data_as`](Self::data_as).
    pub data: serde_json::Value,
    /// When the change was made.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub created_at: Option<Timestamp>,
}

impl Event {
    /// The object that changed.
    ///
    /// # Errors
    /// When the data does not have the form of `T`.
    pub fn data_as<T: for<'a> Deserialize<'a>>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.data)
    }
}

crate::names::text_enum! {
    /// What kind of object an event is about (spec/controller.md §9).
    EventType {
        /// An app was made or changed.
        App = "app",
        /// An app was deleted, or its deletion failed.
        AppDeletion = "app_deletion",
        /// An app's current release was set.
        AppRelease = "app_release",
        /// A release was made.
        Release = "release",
        /// A release was deleted.
        ReleaseDeletion = "release_deletion",
        /// An artifact was made or handed out again.
        Artifact = "artifact",
        /// A deployment went on.
        Deployment = "deployment",
        /// A job reached a state.
        Job = "job",
        /// A scale request was made or completed.
        ScaleRequest = "scale_request",
        /// A scale request was replaced by a newer one.
        ScaleRequestCancelation = "scale_request_cancelation",
        /// Deprecated companion of `scale_request`.
        Scale = "scale",
        /// A provider was made.
        Provider = "provider",
        /// A resource was made or given to an app.
        Resource = "resource",
        /// A resource was deleted.
        ResourceDeletion = "resource_deletion",
        /// A resource was taken from an app.
        ResourceAppDeletion = "resource_app_deletion",
        /// A route was made or changed.
        Route = "route",
        /// A route was deleted.
        RouteDeletion = "route_deletion",
        /// A volume was recorded.
        Volume = "volume",
        /// A log sink was made.
        Sink = "sink",
        /// A log sink was deleted.
        SinkDeletion = "sink_deletion",
        /// The cluster's domain changes.
        DomainMigration = "domain_migration",
        /// A backup was started or ended.
        ClusterBackup = "cluster_backup",
        /// Old releases of an app were deleted.
        AppGarbageCollection = "app_garbage_collection",
    }
}

/// Which events a caller wants. What is empty does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Id or name of the app.
    pub app: Option<String>,
    /// Kinds of objects.
    pub object_types: Vec<EventType>,
    /// One object.
    pub object_id: Option<String>,
}

impl EventFilter {
    /// Events of one app.
    pub fn of_app(id_or_name: &str) -> Self {
        Self { app: Some(id_or_name.to_owned()), ..Self::default() }
    }

    /// Only events of these kinds.
    #[must_use]
    pub fn types(mut self, types: &[EventType]) -> Self {
        self.object_types = types.to_vec();
        self
    }

    /// Only events of this object.
    #[must_use]
    pub fn object(mut self, id: &str) -> Self {
        self.object_id = Some(id.to_owned());
        self
    }

    /// The filter as query parameters.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        if let Some(app) = &self.app {
            query.push(("app_id", app.clone()));
        }
        if !self.object_types.is_empty() {
            let types: Vec<_> = self.object_types.iter().map(|kind| kind.as_str()).collect();
            query.push(("object_types", types.join(",")));
        }
        if let Some(id) = &self.object_id {
            query.push(("object_id", id.clone()));
        }
        query
    }
}
