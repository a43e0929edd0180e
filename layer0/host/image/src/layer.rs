//! What a layer is: a length and digests. Its key in the store follows from its digests alone, never
//! from an id somebody chose, so that no job can pass off another file for a known layer.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512, Sha512_256};

/// Hex digits of a SHA-512/256 or SHA-256.
const SHORT_HEX: usize = 64;
const CHUNK: usize = 256 * 1024;

/// A layer somebody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The name others know it by; for messages.
    pub id: String,
    /// Where it can be fetched; may be empty.
    pub url: String,
    /// Length of the squashfs file in bytes.
    pub size: u64,
    /// Digests of the squashfs file by algorithm.
    pub hashes: BTreeMap<String, String>,
}

/// Why a layer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// None of the digests is of a kind we know.
    #[error("verify: no hashes provided")]
    NoHashes,
    /// The length is missing or negative.
    #[error("verify: size of layer {0:?} must be greater than zero")]
    NoSize(String),
    /// A digest that is no hex of the right length.
    #[error("{0:?} is no {1} digest")]
    BadDigest(String, &'static str),
    /// The file ends too early.
    #[error("verify: data too short")]
    TooShort,
    /// The file goes on after its length.
    #[error("verify: data too long")]
    TooLong,
    /// Another file.
    #[error("verify: expected {algorithm} hash {expected:?} but got {got:?}")]
    Mismatch {
        /// Which digest.
        algorithm: &'static str,
        /// The one stated.
        expected: String,
        /// The file's.
        got: String,
    },
    /// The file cannot be read.
    #[error("cannot read the layer")]
    Read(#[from] io::Error),
}

/// Where a layer is in the store: `<sha512_256>`, else `sha512-…` or `sha256-…` of what was stated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerKey(String);

impl LayerKey {
    /// The key as file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LayerKey {
    type Err = LayerError;
    fn from_str(text: &str) -> Result<Self, LayerError> {
        let digest = text.strip_prefix("sha256-").unwrap_or(text);
        let (digest, length) = match digest.strip_prefix("sha512-") {
            Some(digest) => (digest, 2 * SHORT_HEX),
            None => (digest, SHORT_HEX),
        };
        check_hex(digest, length, "layer")?;
        Ok(Self(text.to_owned()))
    }
}

impl Layer {
    /// The layer's place in the store.
    pub fn key(&self) -> Result<LayerKey, LayerError> {
        for (algorithm, prefix, length) in [
            ("sha512_256", "", SHORT_HEX),
            ("sha512", "sha512-", 2 * SHORT_HEX),
            ("sha256", "sha256-", SHORT_HEX),
        ] {
            if let Some(digest) = self.hashes.get(algorithm) {
                check_hex(digest, length, algorithm)?;
                return Ok(LayerKey(format!("{prefix}{digest}")));
            }
        }
        Err(LayerError::NoHashes)
    }

    /// Checks a whole file against length and digests.
    pub fn verify(&self, file: &mut impl Read) -> Result<(), LayerError> {
        self.key()?;
        if self.size == 0 {
            return Err(LayerError::NoSize(self.id.clone()));
        }
        let digests = Digests::read(file)?;
        match digests.length {
            length if length < self.size => return Err(LayerError::TooShort),
            length if length > self.size => return Err(LayerError::TooLong),
            _ => {}
        }
        for (algorithm, got) in digests.by_algorithm() {
            if let Some(expected) = self.hashes.get(algorithm).filter(|expected| **expected != got)
            {
                return Err(LayerError::Mismatch { algorithm, expected: expected.clone(), got });
            }
        }
        Ok(())
    }

    /// The layer a file is.
    pub fn of_file(file: &mut impl Read) -> io::Result<Self> {
        let digests = Digests::read(file)?;
        let id = hex::encode(digests.sha512_256);
        let hashes = BTreeMap::from([("sha512_256".to_owned(), id.clone())]);
        Ok(Self { id, url: String::new(), size: digests.length, hashes })
    }
}

struct Digests {
    length: u64,
    sha256: Vec<u8>,
    sha512: Vec<u8>,
    sha512_256: Vec<u8>,
}

impl Digests {
    fn read(file: &mut impl Read) -> io::Result<Self> {
        let (mut short, mut long, mut own) = (Sha256::new(), Sha512::new(), Sha512_256::new());
        let mut chunk = vec![0; CHUNK];
        let mut length = 0;
        loop {
            let count = match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = &chunk[..count];
            short.update(bytes);
            long.update(bytes);
            own.update(bytes);
            length += count as u64;
        }
        Ok(Self {
            length,
            sha256: short.finalize().to_vec(),
            sha512: long.finalize().to_vec(),
            sha512_256: own.finalize().to_vec(),
        })
    }

    fn by_algorithm(&self) -> [(&'static str, String); 3] {
        [
            ("sha512_256", hex::encode(&self.sha512_256)),
            ("sha512", hex::encode(&self.sha512)),
            ("sha256", hex::encode(&self.sha256)),
        ]
    }
}

fn check_hex(text: &str, length: usize, kind: &'static str) -> Result<(), LayerError> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == length && text.bytes().all(is_hex) {
        return Ok(());
    }
    Err(LayerError::BadDigest(text.to_owned(), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Layer {
        Layer::of_file(&mut &b"hello"[..]).unwrap()
    }

    #[test]
    fn a_file_is_checked_by_length_and_every_known_digest() {
        let mut layer = hello();
        layer.verify(&mut &b"hello"[..]).unwrap();
        assert_eq!(
            layer.verify(&mut &b"hell"[..]).unwrap_err().to_string(),
            "verify: data too short"
        );
        assert_eq!(
            layer.verify(&mut &b"hello!"[..]).unwrap_err().to_string(),
            "verify: data too long"
        );
        let other = layer.verify(&mut &b"hallo"[..]).unwrap_err().to_string();
        assert!(other.starts_with("verify: expected sha512_256 hash"), "{other}");
        layer.hashes.insert("md5".into(), "ignored".into());
        layer.hashes.insert("sha256".into(), "0".repeat(64));
        assert!(layer.verify(&mut &b"hello"[..]).is_err(), "one wrong digest is enough");
        layer.hashes = BTreeMap::from([("md5".into(), "x".into())]);
        assert_eq!(layer.key().unwrap_err().to_string(), "verify: no hashes provided");
    }

    #[test]
    fn keys_are_safe_file_names() {
        let key = hello().key().unwrap();
        assert_eq!(key.as_str().parse::<LayerKey>().unwrap(), key);
        for bad in ["", "l1", "../../etc", &"g".repeat(64), &format!("sha512-{}", "a".repeat(64))] {
            assert!(bad.parse::<LayerKey>().is_err(), "{bad}");
        }
        let mut layer = hello();
        layer.hashes.insert("sha512_256".into(), "../x".into());
        assert!(layer.key().is_err());
    }
}
