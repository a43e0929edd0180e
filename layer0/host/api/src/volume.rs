//! Volumes of a host and the providers that make them.

use std::collections::BTreeMap;

use kit_http::null_as_default;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::omit::empty;

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeInfo {
    /// Its id.
    #[serde(deserialize_with = "null_as_default")]
    pub id: String,
    /// `data`, `squashfs` or `ext2`.
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: String,
    /// Free texts.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub meta: BTreeMap<String, String>,
    /// When it was made.
    #[serde(deserialize_with = "null_as_default")]
    pub created_at: Timestamp,
}

/// Something happened to a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeEvent {
    /// What.
    #[serde(rename = "type")]
    pub kind: VolumeEventKind,
    /// The volume.
    pub volume: VolumeInfo,
}

/// What happened to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeEventKind {
    /// It was made.
    Create,
    /// It is gone.
    Destroy,
    /// A kind this client does not know.
    #[serde(other)]
    Unknown,
}

/// The body and answer of `POST /storage/providers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProviderSpec {
    /// Its id; made when empty.
    #[serde(deserialize_with = "null_as_default")]
    pub id: String,
    /// What kind.
    #[serde(deserialize_with = "null_as_default")]
    pub kind: String,
    /// Its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Value>,
}
