//! Ids of things named by their content: lower-case hex, so that they are safe as file names and in URLs.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest id: a SHA-512 in hex.
const MAX_LENGTH: usize = 128;

/// Why a text is no content id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: 1 to {MAX_LENGTH} lower-case hex digits are")]
pub struct ParseContentIdError {
    what: &'static str,
    text: String,
}

macro_rules! content_ids {
    ($($(#[$doc:meta])* $name:ident = $what:literal,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The id as it stands on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub(crate) fn of_digest(digest: &[u8]) -> Self {
                Self(hex::encode(digest))
            }
        }

        impl FromStr for $name {
            type Err = ParseContentIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                if text.is_empty() || text.len() > MAX_LENGTH || !text.bytes().all(is_hex) {
                    return Err(ParseContentIdError { what: $what, text: text.to_owned() });
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

content_ids! {
    /// A layer: the SHA-512/256 of its squashfs file, or for pushed images the SHA-256 of the tar it was
    /// made from.
    LayerId = "layer id",
    /// A manifest: the SHA-512/256 of its canonical JSON.
    ManifestId = "manifest id",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_as_file_names() {
        let longest = "0f".repeat(64);
        for good in ["aa11", "0", longest.as_str()] {
            assert_eq!(good.parse::<LayerId>().unwrap().as_str(), good);
        }
        let too_long = "0".repeat(129);
        for bad in ["", "AA", "..", "a/b", "a.b", "g", too_long.as_str()] {
            assert!(bad.parse::<LayerId>().is_err(), "{bad}");
            assert!(serde_json::from_value::<ManifestId>(bad.into()).is_err(), "{bad}");
        }
    }
}
