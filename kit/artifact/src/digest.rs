//! Hash algorithms, maps of hashes as manifests and jobs carry them, and the digest of a layer being made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512, Sha512_256};

use crate::{Layer, LayerId};

/// A hash algorithm that verification knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// SHA-512/256, the one of layer and manifest ids.
    Sha512_256,
}

impl HashAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Sha512_256];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Sha512_256 => "sha512_256",
        }
    }

    pub(crate) fn hasher(self) -> Hasher {
        match self {
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
            Self::Sha512 => Hasher::Sha512(Sha512::new()),
            Self::Sha512_256 => Hasher::Sha512_256(Sha512_256::new()),
        }
    }
}

/// Hashes by algorithm, in hex. Algorithms this build does not know are kept and never looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hashes(BTreeMap<String, String>);

impl Hashes {
    /// One hash.
    pub fn of(algorithm: HashAlgorithm, hex: impl Into<String>) -> Self {
        Self(BTreeMap::from([(algorithm.as_str().to_owned(), hex.into())]))
    }

    /// The hash of an algorithm, if there is one.
    pub fn get(&self, algorithm: HashAlgorithm) -> Option<&str> {
        self.0.get(algorithm.as_str()).map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, String)> for Hashes {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Hashes {
    type Item = (&'a String, &'a String);
    type IntoIter = std::collections::btree_map::Iter<'a, String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Takes a squashfs file's bytes while it is written and gives the layer they make.
#[derive(Clone, Debug, Default)]
pub struct LayerDigest {
    hasher: Sha512_256,
    length: u64,
}

impl LayerDigest {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// The layer of all bytes so far.
    pub fn finish(self) -> Layer {
        let id = LayerId::of_digest(&self.hasher.finalize());
        let hashes = Hashes::of(HashAlgorithm::Sha512_256, id.as_str());
        Layer::squashfs(id, self.length, hashes)
    }
}

/// A hash being computed.
#[derive(Clone, Debug)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
    Sha512_256(Sha512_256),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
            Self::Sha512_256(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => hex::encode(hasher.finalize()),
            Self::Sha512(hasher) => hex::encode(hasher.finalize()),
            Self::Sha512_256(hasher) => hex::encode(hasher.finalize()),
        }
    }
}
