//! Formations (how many jobs of each process type are wanted) and requests to change them.

use std::collections::BTreeMap;

use kit_ids::{AppId, ReleaseId, ScaleRequestId};
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::wire::{absent, blank_as_none, lenient, none_as_blank, present};
use crate::{App, Artifact, Release};

/// Wanted jobs by process type.
pub type ProcessCounts = BTreeMap<String, u32>;

/// Host tags a process type asks for, by process type.
pub type ProcessTags = BTreeMap<String, BTreeMap<String, String>>;

/// The largest count of one process type that the controller accepts.
pub const MAX_PROCESS_COUNT: u32 = 10_000;

/// How many jobs of each type of a release an app wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Formation {
    /// The app.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub app: Option<AppId>,
    /// The release.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub release: Option<ReleaseId>,
    /// Wanted counts. In a request, none at all means none of every type.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub processes: Option<ProcessCounts>,
    /// Tags a host must have, by process type.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub tags: Option<ProcessTags>,
    /// When it was first made.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub updated_at: Option<Timestamp>,
}

/// A formation with everything needed to start its jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExpandedFormation {
    /// The app; absent only in the sentinel that ends a stream's first part.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub app: Option<App>,
    /// The release.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub release: Option<Release>,
    /// The release's artifacts, in its order.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub artifacts: Vec<Artifact>,
    /// Wanted counts.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub processes: ProcessCounts,
    /// Tags a host must have, by process type.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub tags: ProcessTags,
    /// When it was last changed.
    #[serde(deserialize_with = "lenient")]
    pub updated_at: Timestamp,
    /// It was deleted.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub deleted: bool,
    /// The request that waits for its completion by the scheduler.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub pending_scale_request: Option<ScaleRequest>,
}

impl ExpandedFormation {
    /// Whether this is the empty object that separates what exists from what happens next.
    pub fn is_sentinel(&self) -> bool {
        self.app.is_none()
    }
}

/// A request to change a formation, and its fate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScaleRequest {
    /// Made by the server.
    #[serde(deserialize_with = "blank_as_none", serialize_with = "none_as_blank")]
    pub id: Option<ScaleRequestId>,
    /// The app.
    #[serde(deserialize_with = "blank_as_none", serialize_with = "none_as_blank")]
    pub app: Option<AppId>,
    /// The release.
    #[serde(deserialize_with = "blank_as_none", serialize_with = "none_as_blank")]
    pub release: Option<ReleaseId>,
    /// What became of it.
    #[serde(deserialize_with = "blank_as_none", serialize_with = "none_as_blank")]
    pub state: Option<ScaleState>,
    /// Counts before the request.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub old_processes: ProcessCounts,
    /// Wanted counts. Absent and null both mean "unchanged"; see
    /// [`wanted_processes`](Self::wanted_processes).
    #[serde(deserialize_with = "present", skip_serializing_if = "absent")]
    pub new_processes: Option<Option<ProcessCounts>>,
    /// Tags before the request.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub old_tags: ProcessTags,
    /// Wanted tags; as `new_processes`.
    #[serde(deserialize_with = "present", skip_serializing_if = "absent")]
    pub new_tags: Option<Option<ProcessTags>>,
    /// When it was made.
    #[serde(deserialize_with = "lenient")]
    pub created_at: Option<Timestamp>,
    /// When its state last changed.
    #[serde(deserialize_with = "lenient")]
    pub updated_at: Option<Timestamp>,
}

impl ScaleRequest {
    /// A new request. `None` leaves that part of the formation as it is.
    pub fn pending(processes: Option<ProcessCounts>, tags: Option<ProcessTags>) -> Self {
        let state = Some(ScaleState::Pending);
        Self {
            state,
            new_processes: processes.map(Some),
            new_tags: tags.map(Some),
            ..Self::default()
        }
    }

    /// The counts asked for, if any.
    pub fn wanted_processes(&self) -> Option<&ProcessCounts> {
        self.new_processes.as_ref().and_then(Option::as_ref)
    }

    /// The tags asked for, if any.
    pub fn wanted_tags(&self) -> Option<&ProcessTags> {
        self.new_tags.as_ref().and_then(Option::as_ref)
    }
}

crate::names::text_enum! {
    /// What became of a scale request.
    ScaleState {
        /// The scheduler works on it.
        Pending = "pending",
        /// A newer one replaced it.
        Cancelled = "cancelled",
        /// What was wanted runs.
        Complete = "complete",
    }
}

/// The data of the deprecated event `scale`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeprecatedScale {
    /// Counts before.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub prev_processes: ProcessCounts,
    /// Counts after.
    #[serde(deserialize_with = "lenient")]
    pub processes: ProcessCounts,
    /// The release.
    #[serde(deserialize_with = "blank_as_none", serialize_with = "none_as_blank")]
    pub release: Option<ReleaseId>,
}
