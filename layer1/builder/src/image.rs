//! The slug as an image: its manifest, and the artifact that the controller keeps.

use std::collections::BTreeMap;

use kit_artifact::{
    Artifact, BLOBSTORE_META, DEFAULT_ENTRYPOINT, Entrypoint, ImageManifest, Layer, ManifestError,
    Platform, Rootfs,
};
use kit_ids::ArtifactId;

use crate::config::User;

/// Whose manifest it is: equal slugs of two builds share their layers, never their manifest, which goes
/// with its artifact.
const SLUG_META: &str = "slugbuilder.slug";
/// Which process types a slug has, a comma list.
const PROCESS_TYPES_META: &str = "slugbuilder.process_types";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image ready to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub artifact: Artifact,
    /// Where the manifest goes, and its text.
    pub manifest_url: String,
    pub manifest: Vec<u8>,
}

impl Image {
    /// Of layers, bottom to top.
    pub(crate) fn new(
        slug: &ArtifactId,
        blobstore: &str,
        layers: Vec<Layer>,
        process_types: &[&str],
    ) -> Result<Self, ManifestError> {
        let rootfs = Rootfs { platform: Some(Platform::amd64_linux()), layers };
        let manifest = ImageManifest {
            entrypoints: BTreeMap::from([(DEFAULT_ENTRYPOINT.to_owned(), entrypoint())]),
            meta: BTreeMap::from([(SLUG_META.to_owned(), slug.to_string())]),
            rootfs: vec![rootfs],
            ..ImageManifest::default()
        };
        let (text, id) = manifest.canonical()?;
        let manifest_url = format!("{blobstore}/slugs/images/{id}.json");
        let template = format!("{blobstore}/slugs/layers/{{id}}.squashfs");
        let mut artifact = Artifact::of_manifest(manifest, manifest_url.as_str(), template)?;
        artifact.id = Some(slug.clone());
        artifact.meta.insert(BLOBSTORE_META.to_owned(), "true".to_owned());
        if !process_types.is_empty() {
            artifact.meta.insert(PROCESS_TYPES_META.to_owned(), process_types.join(","));
        }
        Ok(Self { artifact, manifest_url, manifest: text })
    }
}

fn entrypoint() -> Entrypoint {
    let env = [("PATH", PATH), ("TERM", "xterm"), ("HOME", "/app")];
    Entrypoint {
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        cwd: "/app".to_owned(),
        args: vec!["/runner/init".to_owned(), "bash".to_owned()],
        uid: Some(User::FLYNN.uid),
        gid: Some(User::FLYNN.gid),
        ..Entrypoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_an_image_as_the_wire_has_it() {
        let slug: ArtifactId = "0f0e0d0c-2222-4222-8333-abcdefabcdef".parse().unwrap();
        let mut digest = kit_artifact::LayerDigest::new();
        digest.update(b"layer");
        let layer = digest.finish();
        let id = layer.id.to_string();
        let image = Image::new(&slug, "http://b", vec![layer], &["web", "worker"]).unwrap();
        let want = format!(
            r#"{{"_type":"application/vnd.flynn.image.manifest.v1+json","entrypoints":{{"_default":{{"args":["/runner/init","bash"],"cwd":"/app","env":{{"HOME":"/app","PATH":"{PATH}","TERM":"xterm"}},"gid":5000,"uid":5000}}}},"meta":{{"slugbuilder.slug":"{slug}"}},"rootfs":[{{"layers":[{{"hashes":{{"sha512_256":"{id}"}},"id":"{id}","length":5,"type":"application/vnd.flynn.image.squashfs.v1"}}],"platform":{{"architecture":"amd64","os":"linux"}}}}]}}"#
        );
        assert_eq!(String::from_utf8(image.manifest.clone()).unwrap(), want);
        let wire = serde_json::to_value(&image.artifact).unwrap();
        assert_eq!(wire["id"], slug.as_str());
        assert_eq!(wire["type"], "flynn");
        assert_eq!(wire["uri"], image.manifest_url);
        assert_eq!(wire["size"], want.len());
        assert_eq!(wire["layer_url_template"], "http://b/slugs/layers/{id}.squashfs");
        assert_eq!(
            wire["meta"],
            serde_json::json!({"blobstore": "true", "slugbuilder.process_types": "web,worker"})
        );
        let without = Image::new(&slug, "http://b", vec![], &[]).unwrap();
        assert!(!without.artifact.meta.contains_key(PROCESS_TYPES_META));
    }
}
