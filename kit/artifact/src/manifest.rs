//! The image manifest: how to start it and which layers it is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha512_256};

use crate::artifact::is_zero;
use crate::digest::Hashes;
use crate::{LayerId, ManifestId, canonical_json};

/// The type of a layer that is a squashfs file.
pub const SQUASHFS: &str = "application/vnd.flynn.image.squashfs.v1";

/// The entrypoint of process types that have none of their own.
pub const DEFAULT_ENTRYPOINT: &str = "_default";

/// The form of a manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManifestKind {
    /// The only one.
    #[default]
    #[serde(rename = "application/vnd.flynn.image.manifest.v1+json")]
    V1,
}

/// An image. Fields that are empty do not stand on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// Its form.
    #[serde(rename = "_type")]
    pub kind: ManifestKind,
    /// Facts for programs.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub meta: BTreeMap<String, String>,
    /// How to start it, by process type.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub entrypoints: BTreeMap<String, Entrypoint>,
    /// Its file systems, one per platform.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub rootfs: Vec<Rootfs>,
}

/// How to start a process of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entrypoint {
    /// Environment; the release's goes over it.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub env: BTreeMap<String, String>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cwd: String,
    /// Program and arguments.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Capabilities, where they are other than the default ones.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub linux_capabilities: Vec<String>,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A file system for one platform.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rootfs {
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Its layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
}

/// What a file system's programs run on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// As Go names it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub os: String,
}

impl Platform {
    /// The platform our images are made for.
    pub fn amd64_linux() -> Self {
        Self { architecture: "amd64".to_owned(), os: "linux".to_owned() }
    }
}

/// A read-only layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Its id.
    pub id: LayerId,
    /// What kind of file it is; [`SQUASHFS`] are the ones that are mounted.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Size of the file in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub length: u64,
    /// Hashes of the file.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Hashes::is_empty"
    )]
    pub hashes: Hashes,
    /// Facts for programs, such as the id of the tar it was made from.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub meta: BTreeMap<String, String>,
}

impl Layer {
    /// A layer that is a squashfs file.
    pub fn squashfs(id: LayerId, length: u64, hashes: Hashes) -> Self {
        Self { id, kind: SQUASHFS.to_owned(), length, hashes, meta: BTreeMap::new() }
    }

    /// Whether it is a squashfs file; others are passed over.
    pub fn is_squashfs(&self) -> bool {
        self.kind == SQUASHFS
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON of a manifest.
    #[error("not an image manifest")]
    Json(#[from] serde_json::Error),
}

impl ImageManifest {
    /// Reads a manifest.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        Ok(serde_json::from_slice(json)?)
    }

    /// The canonical JSON and the id, which is its hash.
    pub fn canonical(&self) -> Result<(Vec<u8>, ManifestId), ManifestError> {
        let text = canonical_json(self)?;
        let id = ManifestId::of_digest(&Sha512_256::digest(&text));
        Ok((text, id))
    }

    /// The id.
    pub fn id(&self) -> Result<ManifestId, ManifestError> {
        Ok(self.canonical()?.1)
    }

    /// The squashfs layers, lowest first. A manifest with no or with several file systems has none: which
    /// to take would be a guess.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        let single = match self.rootfs.as_slice() {
            [rootfs] => rootfs.layers.as_slice(),
            [] | [_, _, ..] => &[],
        };
        single.iter().filter(|layer| layer.is_squashfs())
    }
}

/// The entrypoint of a process type in a release's images (lowest first): the type's own of the topmost
/// image that has one, else the topmost default.
pub fn entrypoint_for<'a>(
    manifests: impl DoubleEndedIterator<Item = &'a ImageManifest> + Clone,
    process_type: &str,
) -> Option<&'a Entrypoint> {
    let mut defaults = manifests.clone().rev();
    let own = manifests.rev().find_map(|image| image.entrypoints.get(process_type));
    own.or_else(|| defaults.find_map(|image| image.entrypoints.get(DEFAULT_ENTRYPOINT)))
}

/// Go writes `null` for empty lists and maps.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Artifact, LayerDigest};

    // As in spec/controller.md §25, example 6.
    const MAN: &str = r#"{"_type":"application/vnd.flynn.image.manifest.v1+json","entrypoints":{"_default":{"env":{"A":"1"},"args":["/bin/run"]}},"rootfs":[{"platform":{"architecture":"amd64","os":"linux"},"layers":[{"id":"aa11","type":"application/vnd.flynn.image.squashfs.v1","length":4096,"hashes":{"sha512_256":"aa11"}}]}]}"#;

    #[test]
    fn a_manifest_reads_back_as_written() {
        let manifest = ImageManifest::parse(MAN.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&manifest).unwrap(), MAN);
        assert_eq!(manifest.layers().map(|layer| layer.length).collect::<Vec<_>>(), [4096]);
    }

    #[test]
    fn the_id_does_not_depend_on_the_order_of_keys() {
        let stored = r#"{"_type":"application/vnd.flynn.image.manifest.v1+json","meta":null,"rootfs":[{"layers":[{"id":"aa11","type":"application/vnd.flynn.image.squashfs.v1","hashes":{"sha512_256":"aa11"},"length":4096}],"platform":{"os":"linux","architecture":"amd64"}}],"entrypoints":{"_default":{"env":{"A":"1"},"args":["/bin/run"]}}}"#;
        let (text, id) = ImageManifest::parse(MAN.as_bytes()).unwrap().canonical().unwrap();
        assert_eq!(
            String::from_utf8(text.clone()).unwrap(),
            r#"{"_type":"application/vnd.flynn.image.manifest.v1+json","entrypoints":{"_default":{"args":["/bin/run"],"env":{"A":"1"}}},"rootfs":[{"layers":[{"hashes":{"sha512_256":"aa11"},"id":"aa11","length":4096,"type":"application/vnd.flynn.image.squashfs.v1"}],"platform":{"architecture":"amd64","os":"linux"}}]}"#
        );
        assert_eq!(ImageManifest::parse(stored.as_bytes()).unwrap().id().unwrap(), id);
        assert_eq!(id.as_str(), hex::encode(Sha512_256::digest(text)));
    }

    #[test]
    fn an_artifact_of_a_manifest_verifies_its_file() {
        let manifest = ImageManifest::parse(MAN.as_bytes()).unwrap();
        let (text, _) = manifest.canonical().unwrap();
        let artifact =
            Artifact::of_manifest(manifest, "http://h/m.json", "http://h/{id}.squashfs").unwrap();
        assert_eq!(crate::verify(&text, artifact.size, &artifact.hashes), Ok(()));
        let wire = serde_json::to_value(&artifact).unwrap();
        assert_eq!(wire["type"], "flynn");
        assert!(!wire.as_object().unwrap().contains_key("meta"), "empty fields do not stand");
        assert_eq!(serde_json::from_value::<Artifact>(wire).unwrap(), artifact);
        let url = artifact.layer_url(&"aa11".parse().unwrap()).unwrap();
        assert_eq!(url, "http://h/aa11.squashfs");
    }

    #[test]
    fn another_type_and_other_file_systems_are_no_image() {
        assert!(ImageManifest::parse(br#"{"_type":"application/other"}"#).is_err());
        let layer = |kind: &str| Layer { kind: kind.to_owned(), ..LayerDigest::new().finish() };
        let rootfs = |kinds: &[&str]| Rootfs {
            platform: Some(Platform::amd64_linux()),
            layers: kinds.iter().map(|kind| layer(kind)).collect(),
        };
        let of = |rootfs: Vec<Rootfs>| ImageManifest { rootfs, ..ImageManifest::default() };
        assert_eq!(of(vec![rootfs(&[SQUASHFS, "other", SQUASHFS])]).layers().count(), 2);
        assert_eq!(of(vec![]).layers().count(), 0);
        assert_eq!(of(vec![rootfs(&[SQUASHFS]), rootfs(&[SQUASHFS])]).layers().count(), 0);
    }

    #[test]
    fn the_topmost_image_decides_how_to_start() {
        let image = |names: &[(&str, &str)]| {
            let entrypoint =
                |cwd: &str| Entrypoint { cwd: cwd.to_owned(), ..Entrypoint::default() };
            let named = names.iter().map(|(name, cwd)| ((*name).to_owned(), entrypoint(cwd)));
            ImageManifest { entrypoints: named.collect(), ..ImageManifest::default() }
        };
        let base = image(&[("_default", "base"), ("web", "base-web")]);
        let slug = image(&[("_default", "slug")]);
        let images = [base, slug];
        let cwd =
            |process_type| entrypoint_for(images.iter(), process_type).map(|e| e.cwd.as_str());
        assert_eq!(cwd("web"), Some("base-web"));
        assert_eq!(cwd("worker"), Some("slug"));
        assert_eq!(entrypoint_for([].iter(), "web"), None);
    }
}
