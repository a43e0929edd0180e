//! Deployments: one change of an app from a release to another, and the events that tell of it.

use kit_ids::{AppId, DeploymentId, ReleaseId};
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::app::Strategy;
use crate::formation::{ProcessCounts, ProcessTags};
use crate::job::JobState;
use crate::wire::{absent, blank_as_none, lenient};

/// One change from a release to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deployment {
    /// The deployment's id.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub id: Option<DeploymentId>,
    /// The app.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub app: Option<AppId>,
    /// What ran before; absent when nothing did.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub old_release: Option<ReleaseId>,
    /// What runs afterwards.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub new_release: Option<ReleaseId>,
    /// How it proceeds; the app's at the time it was made.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub strategy: Option<Strategy>,
    /// The status of its latest event.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub status: Option<DeploymentStatus>,
    /// The counts to reach.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub processes: ProcessCounts,
    /// The tags to keep.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub tags: ProcessTags,
    /// Seconds one step may take.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub deploy_timeout: i32,
    /// Jobs replaced at a time with the strategy `in-batches`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub deploy_batch_size: Option<i32>,
    /// When it was made.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub created_at: Option<Timestamp>,
    /// When it ended, well or not.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub finished_at: Option<Timestamp>,
}

/// The data of an event `deployment`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentEvent {
    /// The app.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub app: Option<AppId>,
    /// The deployment.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub deployment: Option<DeploymentId>,
    /// The new release.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub release: Option<ReleaseId>,
    /// How far it is.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub status: Option<DeploymentStatus>,
    /// The process type a `running` event is about.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub job_type: String,
    /// What happened to the job a `running` event is about.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub job_state: Option<JobState>,
    /// Why it failed.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub error: String,
}

crate::names::text_enum! {
    /// How far a deployment is.
    DeploymentStatus {
        /// Made, or under way.
        Pending = "pending",
        /// Under way with news of single jobs.
        Running = "running",
        /// The new release runs.
        Complete = "complete",
        /// The old release runs (again).
        Failed = "failed",
    }
}
