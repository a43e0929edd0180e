//! A service: its name, how its leader is chosen, its metadata.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::InstanceId;
use crate::lenient::null_is_default;

/// A service's name: lower-case letters, digits and dashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

/// Why a text names no service. The texts are part of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceNameError {
    /// Nothing was given.
    #[error("discoverd: service name must not be empty")]
    Empty,
    /// Other than `[a-z0-9-]`.
    #[error("discoverd: service must be lowercase alphanumeric plus dash")]
    BadCharacter,
}

impl ServiceName {
    /// The name as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = ServiceNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        match text {
            "" => Err(ServiceNameError::Empty),
            _ if text.bytes().all(allowed) => Ok(Self(text.to_owned())),
            _ => Err(ServiceNameError::BadCharacter),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a service gets its leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaderType {
    /// The instance that was registered first; chosen again at each change.
    #[default]
    Oldest,
    /// Whoever was set by request; stays even while that instance is away.
    Manual,
}

impl LeaderType {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oldest => "oldest",
            Self::Manual => "manual",
        }
    }
}

impl Serialize for LeaderType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for LeaderType {
    /// Every word but `manual` means `oldest`; clients send the empty one.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Ok(if word == "manual" { Self::Manual } else { Self::Oldest })
    }
}

/// The body of `PUT /services/:service`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceConfig {
    /// How the leader is chosen.
    #[serde(default, deserialize_with = "null_is_default")]
    pub leader_type: LeaderType,
}

/// The body of `PUT /services/:service/leader`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderChange {
    /// The instance that leads from now on.
    #[serde(default, deserialize_with = "null_is_default")]
    pub id: InstanceId,
}

/// Metadata of a service, changed by compare-and-swap on `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMeta {
    /// Any JSON.
    #[serde(default)]
    pub data: JsonText,
    /// In requests: who leads from now on, set together with the data. Never stored.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_id")]
    pub leader_id: Option<InstanceId>,
    /// In requests the index that must be stored now, 0 when there must be none; in answers the index
    /// of the write.
    #[serde(default, deserialize_with = "null_is_default")]
    pub index: u64,
}

impl ServiceMeta {
    /// Metadata to be stored where there is none yet.
    pub fn create<T: Serialize>(data: &T) -> Result<Self, serde_json::Error> {
        Self::replace(0, data)
    }

    /// Metadata to be stored in place of what has `index`.
    pub fn replace<T: Serialize>(index: u64, data: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { data: JsonText::of(data)?, leader_id: None, index })
    }

    /// The same with a leader to be set in the same step.
    #[must_use]
    pub fn with_leader(mut self, id: InstanceId) -> Self {
        self.leader_id = Some(id);
        self
    }

    /// The data as `T`.
    pub fn parse<T: for<'de> Deserialize<'de>>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.data.as_str())
    }
}

/// An empty id means that no leader is to be set.
fn some_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<InstanceId>, D::Error> {
    Ok(Option::<InstanceId>::deserialize(deserializer)?.filter(|id| !id.is_empty()))
}

/// A JSON value kept as the text that was sent, without insignificant white space: numbers keep every
/// digit and objects their order. `null` by default.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonText(String);

impl JsonText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The JSON of `value`.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self)
    }

    /// Checks and compacts a text.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<&RawValue>(text).map(|raw| Self(compact(raw.get())))
    }
}

impl Default for JsonText {
    fn default() -> Self {
        Self("null".to_owned())
    }
}

impl fmt::Debug for JsonText {
    /// The length only: metadata may hold secrets and Debug ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonText({} bytes)", self.0.len())
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer).map_err(D::Error::custom)?;
        Ok(Self(compact(raw.get())))
    }
}

/// Drops white space outside of strings. The text is valid JSON.
fn compact(json: &str) -> String {
    let mut compacted = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        compacted.push(c);
    }
    compacted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_and_all_else_stays() {
        for (sent, kept) in [
            ("{\"a\":  2}", "{\"a\":2}"),
            (
                "[ 1.0e5 ,\n\t123456789012345678901234567890 ]",
                "[1.0e5,123456789012345678901234567890]",
            ),
            (r#"{ "b" : "x \" y \\" , "a" : " z " }"#, r#"{"b":"x \" y \\","a":" z "}"#),
            ("null", "null"),
        ] {
            assert_eq!(JsonText::parse(sent).unwrap().as_str(), kept);
        }
        assert!(JsonText::parse("{").is_err());
    }

    #[test]
    fn names_are_lower_case_letters_digits_and_dashes() {
        assert_eq!("app-web1".parse::<ServiceName>().unwrap().as_str(), "app-web1");
        for (text, want) in [
            ("", "discoverd: service name must not be empty"),
            ("Web", "discoverd: service must be lowercase alphanumeric plus dash"),
            ("a.b", "discoverd: service must be lowercase alphanumeric plus dash"),
        ] {
            assert_eq!(text.parse::<ServiceName>().unwrap_err().to_string(), want);
        }
    }
}
