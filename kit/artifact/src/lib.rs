//! Image manifests, layers and their content-addressed ids; hash verification of what was fetched.
//! No IO: bytes come in, verdicts go out. Making and mounting squashfs files is the host's business.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod artifact;
mod canonical;
mod digest;
mod id;
mod manifest;
mod template;
mod verify;

pub use artifact::{Artifact, ArtifactKind, BLOBSTORE_META, SYSTEM_IMAGE_META};
pub use canonical::canonical_json;
pub use digest::{HashAlgorithm, Hashes, LayerDigest};
pub use id::{LayerId, ManifestId, ParseContentIdError};
pub use manifest::{
    DEFAULT_ENTRYPOINT, Entrypoint, ImageManifest, Layer, ManifestError, ManifestKind, Platform,
    Rootfs, SQUASHFS, entrypoint_for,
};
pub use template::{TemplateError, layer_url};
pub use verify::{Verifier, VerifyError, verify};
