//! Where a host sends its jobs' logs.

use kit_http::null_as_default;
use serde::{Deserialize, Serialize};

use crate::omit::empty;

/// A sink as it is listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sink {
    /// Its id.
    #[serde(deserialize_with = "null_as_default")]
    pub id: String,
    /// `syslog` or `logaggregator`.
    #[serde(deserialize_with = "null_as_default")]
    pub kind: String,
    /// Its configuration.
    pub config: serde_json::Value,
    /// Made by the host itself.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub host_managed: bool,
}

/// A sink as it is put.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkInfo {
    /// Its id.
    #[serde(deserialize_with = "null_as_default")]
    pub id: String,
    /// `syslog` or `logaggregator`.
    #[serde(deserialize_with = "null_as_default")]
    pub kind: String,
    /// Where to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<serde_json::Value>,
    /// Its configuration.
    pub config: serde_json::Value,
    /// Made by the host itself.
    #[serde(deserialize_with = "null_as_default")]
    pub host_managed: bool,
}
