//! An artifact as hosts, bootstrap and builder pass it on: where a manifest is and where its layers are.
//! The controller's own type, with its rules for what people may post, is in its api crate.

use std::collections::BTreeMap;

use kit_ids::ArtifactId;
use serde::{Deserialize, Serialize};

use crate::digest::Hashes;
use crate::manifest::{ImageManifest, null_as_default};
use crate::{LayerId, ManifestError, TemplateError, layer_url};

/// Meta key of artifacts whose files the cluster's blobstore has.
pub const BLOBSTORE_META: &str = "blobstore";

/// Meta key of the platform's own images, which garbage collection keeps.
pub const SYSTEM_IMAGE_META: &str = "flynn.system-image";

/// What an artifact is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// A manifest of squashfs layers, the only kind that runs.
    #[default]
    Flynn,
    /// An image of a Docker registry; of old clusters.
    Docker,
    /// A slug in a tar file; of old clusters.
    File,
}

/// An artifact on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Absent until the controller knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ArtifactId>,
    /// What it is.
    #[serde(default, rename = "type")]
    pub kind: ArtifactKind,
    /// Where the manifest is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Facts for programs.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub meta: BTreeMap<String, String>,
    /// The manifest itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ImageManifest>,
    /// Hashes of the manifest's file.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Hashes::is_empty"
    )]
    pub hashes: Hashes,
    /// Size of the manifest's file in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Where layers are, with `{id}` for a layer's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub layer_url_template: String,
}

impl Artifact {
    /// An artifact of a manifest that is stored, in canonical form, at `uri`.
    pub fn of_manifest(
        manifest: ImageManifest,
        uri: impl Into<String>,
        layer_url_template: impl Into<String>,
    ) -> Result<Self, ManifestError> {
        let (text, id) = manifest.canonical()?;
        Ok(Self {
            uri: uri.into(),
            hashes: Hashes::of(crate::HashAlgorithm::Sha512_256, id.as_str()),
            size: text.len() as u64,
            manifest: Some(manifest),
            layer_url_template: layer_url_template.into(),
            ..Self::default()
        })
    }

    /// Where a layer is.
    pub fn layer_url(&self, id: &LayerId) -> Result<String, TemplateError> {
        layer_url(&self.layer_url_template, id)
    }
}

pub(crate) fn is_zero(size: &u64) -> bool {
    *size == 0
}
