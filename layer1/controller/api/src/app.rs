//! Apps and the keys of their metadata that mean something to the platform.

use std::collections::BTreeMap;

use kit_ids::{AppId, ReleaseId};
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::wire::{absent, blank_as_none, lenient, texts};

/// Metadata that marks an app of the platform itself: `"true"` means no default route, and jobs in
/// the partition `system`.
pub const META_SYSTEM_APP: &str = "flynn-system-app";
/// Metadata that keeps the scheduler from taking the last process of an app away: `"true"`.
pub const META_SYSTEM_CRITICAL: &str = "flynn-system-critical";
/// Metadata: how many jobs a deployment with the strategy `in-batches` replaces at a time.
pub const META_DEPLOY_BATCH_SIZE: &str = "flynn-deploy-batch-size";
/// Metadata: how many inactive releases made by a push are kept, or `"false"`.
pub const META_GC_MAX_INACTIVE: &str = "gc.max_inactive_slug_releases";

/// A named thing that runs on the platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct App {
    /// The app's id.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub id: Option<AppId>,
    /// Unique among living apps.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub name: String,
    /// Free texts, of which the `META_` constants have a meaning.
    #[serde(deserialize_with = "texts")]
    pub meta: BTreeMap<String, String>,
    /// How a deployment of the app proceeds.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub strategy: Option<Strategy>,
    /// The release that runs, if one was ever set.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub release: Option<ReleaseId>,
    /// Seconds one step of a deployment may take.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub deploy_timeout: i32,
    /// When it was created.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub updated_at: Option<Timestamp>,
}

impl App {
    /// An app to be created under this name; the server fills in the rest.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Whether this is part of the platform itself.
    pub fn is_system(&self) -> bool {
        self.meta.get(META_SYSTEM_APP).is_some_and(|value| value == "true")
    }

    /// Whether the scheduler must not take its last process away.
    pub fn is_critical(&self) -> bool {
        self.meta.get(META_SYSTEM_CRITICAL).is_some_and(|value| value == "true")
    }
}

/// A partial change of an app: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppUpdate {
    /// Replaces the whole map.
    #[serde(skip_serializing_if = "absent")]
    pub meta: Option<BTreeMap<String, String>>,
    /// The new strategy.
    #[serde(skip_serializing_if = "absent")]
    pub strategy: Option<Strategy>,
    /// The new time-out in seconds.
    #[serde(skip_serializing_if = "absent")]
    pub deploy_timeout: Option<i32>,
}

crate::names::text_enum! {
    /// How a deployment proceeds (spec/controller.md §12).
    Strategy {
        /// All new jobs first, then all old ones away.
        AllAtOnce = "all-at-once",
        /// One new job, then one old one away, and again.
        OneByOne = "one-by-one",
        /// A database cluster: asynchronous standbys first, the primary last.
        Sirenia = "sirenia",
        /// As `OneByOne`, each step confirmed by the app in its service's metadata.
        DiscoverdMeta = "discoverd-meta",
        /// One old job away, then one new one, and again.
        OneDownOneUp = "one-down-one-up",
        /// As `OneByOne` in larger steps.
        InBatches = "in-batches",
    }
}

/// A change of an app's current release, as the event `app_release` tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppRelease {
    /// What ran before, if anything.
    #[serde(skip_serializing_if = "absent")]
    pub prev_release: Option<crate::Release>,
    /// What runs now.
    pub release: Option<crate::Release>,
}

/// What the deletion of an app took away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppDeletion {
    /// The app.
    #[serde(serialize_with = "crate::wire::none_as_blank", deserialize_with = "blank_as_none")]
    pub app: Option<AppId>,
    /// Its routes.
    pub deleted_routes: Option<Vec<crate::Route>>,
    /// Its resources that no other app uses.
    pub deleted_resources: Option<Vec<crate::Resource>>,
    /// Its releases.
    pub deleted_releases: Option<Vec<crate::Release>>,
}

/// The data of an event `app_deletion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppDeletionEvent {
    /// What was deleted.
    pub app_deletion: Option<AppDeletion>,
    /// Why it failed; empty when it did not.
    pub error: String,
}

/// The releases that a garbage collection deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppGarbageCollection {
    /// The app.
    #[serde(serialize_with = "crate::wire::none_as_blank", deserialize_with = "blank_as_none")]
    pub app_id: Option<AppId>,
    /// What went; null when nothing did.
    pub deleted_releases: Option<Vec<ReleaseId>>,
}

/// The data of an event `app_garbage_collection`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppGarbageCollectionEvent {
    /// What was deleted.
    pub app_garbage_collection: Option<AppGarbageCollection>,
    /// Why it failed; empty when it did not.
    pub error: String,
}
