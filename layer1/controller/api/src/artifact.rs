//! Artifacts: images and file sets that releases run, each described by a manifest.

use std::collections::BTreeMap;

use kit_ids::ArtifactId;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::wire::{absent, blank_as_none, lenient, texts};

/// Metadata that marks an artifact whose files are in the blob store: `"true"`.
pub const META_BLOBSTORE: &str = "blobstore";
/// Metadata that marks an image of the platform, which is never collected: `"true"`.
pub const META_SYSTEM_IMAGE: &str = "flynn.system-image";

/// An image or a set of files a release runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Artifact {
    /// The artifact's id.
    #[serde(deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub id: Option<ArtifactId>,
    /// What kind of image; only `flynn` can be run.
    #[serde(rename = "type", deserialize_with = "blank_as_none", skip_serializing_if = "absent")]
    pub kind: Option<ArtifactType>,
    /// Where the manifest is; unique together with the type among living artifacts.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub uri: String,
    /// Free texts; `META_BLOBSTORE` and `META_SYSTEM_IMAGE` have a meaning.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub meta: BTreeMap<String, String>,
    /// The image manifest as it was given.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub manifest: Option<serde_json::Value>,
    /// Digests of the manifest by algorithm.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub hashes: BTreeMap<String, String>,
    /// Length of the manifest in bytes.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub size: i64,
    /// Where the layers are: a URL with `{id}`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub layer_url_template: String,
    /// When it was made.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub created_at: Option<Timestamp>,
}

crate::names::text_enum! {
    /// What kind of image an artifact is.
    ArtifactType {
        /// Legacy; cannot be run.
        Docker = "docker",
        /// Legacy; cannot be run.
        File = "file",
        /// A list of squashfs layers with a manifest.
        Flynn = "flynn",
    }
}
