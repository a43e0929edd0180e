//! Volumes as the controller records them.

use std::collections::BTreeMap;

use kit_ids::{AppId, HostId, ReleaseId, VolumeId};
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::job::JobUuid;
use crate::wire::{absent, blank_as_none, lenient, none_as_blank, texts};

/// Storage of an app on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Where a job sees it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub path: String,
    /// It goes when its job ends.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub delete_on_stop: bool,
    /// The volume's id.
    #[serde(deserialize_with = "blank_as_none", serialize_with = "none_as_blank")]
    pub id: Option<VolumeId>,
    /// The host that holds it.
    #[serde(deserialize_with = "blank_as_none", serialize_with = "none_as_blank")]
    pub host_id: Option<HostId>,
    /// What it is.
    #[serde(rename = "type", deserialize_with = "blank_as_none", serialize_with = "none_as_blank")]
    pub kind: Option<VolumeType>,
    /// How far it is.
    #[serde(deserialize_with = "blank_as_none", serialize_with = "none_as_blank")]
    pub state: Option<VolumeState>,
    /// The app.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub app: Option<AppId>,
    /// The release.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub release: Option<ReleaseId>,
    /// The job that holds it.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub job: Option<JobUuid>,
    /// The process type it was made for.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub job_type: String,
    /// Free texts.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub meta: BTreeMap<String, String>,
    /// When the record was made.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub created_at: Option<Timestamp>,
    /// When the record was last changed.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub updated_at: Option<Timestamp>,
    /// Since when no new job may use it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub decommissioned_at: Option<Timestamp>,
}

crate::names::text_enum! {
    /// What a volume is.
    VolumeType {
        /// Files of an app.
        Data = "data",
        /// A read-only layer.
        Squashfs = "squashfs",
        /// Scratch of a job.
        Ext2 = "ext2",
    }
}

crate::names::text_enum! {
    /// How far a volume is.
    VolumeState {
        /// To be made.
        Pending = "pending",
        /// On its host.
        Created = "created",
        /// Gone.
        Destroyed = "destroyed",
    }
}
