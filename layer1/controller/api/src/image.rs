//! The parts of an image manifest that running a job needs: entrypoints and layers. Making and
//! verifying manifests is not done here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::{absent, lenient, texts};

/// The media type of an image manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.flynn.image.manifest.v1+json";
/// The media type of a layer.
pub const LAYER_TYPE: &str = "application/vnd.flynn.image.squashfs.v1";
/// The entrypoint for process types without one of their own.
pub const DEFAULT_ENTRYPOINT: &str = "_default";

/// An image: its layers and how programs in it start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageManifest {
    /// [`MANIFEST_TYPE`].
    #[serde(rename = "_type", deserialize_with = "lenient")]
    pub media_type: String,
    /// Free texts.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub meta: BTreeMap<String, String>,
    /// How programs start, by process type.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub entrypoints: BTreeMap<String, ImageEntrypoint>,
    /// Root file systems; an image that can be run has exactly one.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub rootfs: Vec<ImageRootfs>,
}

/// How a program in an image starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageEntrypoint {
    /// Environment below all other.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub cwd: String,
    /// The program and its arguments.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub args: Vec<String>,
    /// Capabilities it wants.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub linux_capabilities: Vec<String>,
    /// User.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub uid: Option<u32>,
    /// Group.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub gid: Option<u32>,
}

/// A root file system for a platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRootfs {
    /// What it runs on.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub platform: Option<ImagePlatform>,
    /// Its layers, the lowest first.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub layers: Vec<ImageLayer>,
}

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImagePlatform {
    /// Such as `amd64`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub architecture: String,
    /// Such as `linux`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub os: String,
}

/// A read-only layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageLayer {
    /// Hex SHA-512/256 of the file.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub id: String,
    /// [`LAYER_TYPE`].
    #[serde(rename = "type", deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub media_type: String,
    /// Bytes of the file.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "absent")]
    pub length: i64,
    /// Digests by algorithm.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub hashes: BTreeMap<String, String>,
    /// Free texts.
    #[serde(deserialize_with = "texts", skip_serializing_if = "absent")]
    pub meta: BTreeMap<String, String>,
}
