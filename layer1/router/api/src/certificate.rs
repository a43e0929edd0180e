//! A certificate with its private key, as routes carry it. Checking that the two belong together is
//! done where a TLS library is at hand; the texts of a failure are here.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use kit_ids::RouteId;
use serde::{Deserialize, Serialize};

use crate::time::zero_time;

/// A key pair in PEM. A route has at most one; several routes may share one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Made by the controller, one per certificate text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CertificateId>,
    /// Routes to attach it to; only in requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteId>,
    /// The certificate chain, leaf first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cert: String,
    /// The leaf's private key.
    #[serde(default, skip_serializing_if = "PrivateKeyPem::is_empty")]
    pub key: PrivateKeyPem,
    /// Year 1 until stored.
    #[serde(with = "crate::time", default = "zero_time")]
    pub created_at: DateTime<Utc>,
    /// Year 1 until stored.
    #[serde(with = "crate::time", default = "zero_time")]
    pub updated_at: DateTime<Utc>,
}

impl Certificate {
    /// A key pair that was not stored yet, trimmed as the controller stores it.
    pub fn new(cert: &str, key: &str) -> Self {
        Self {
            id: None,
            routes: Vec::new(),
            cert: cert.trim().to_owned(),
            key: PrivateKeyPem::new(key.trim()),
            created_at: zero_time(),
            updated_at: zero_time(),
        }
    }

    /// Whether it holds neither certificate nor key: such an object counts as none.
    pub fn is_empty(&self) -> bool {
        self.cert.is_empty() && self.key.is_empty()
    }
}

/// A private key in PEM. Its debug form does not show it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKeyPem(String);

impl PrivateKeyPem {
    /// Wraps a key's text.
    pub fn new(pem: &str) -> Self {
        Self(pem.to_owned())
    }

    /// The key's text; for the TLS library and the wire, never for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "[none]" } else { "[redacted]" })
    }
}

/// A certificate's id: a UUID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateId(String);

impl CertificateId {
    /// The id as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CertificateId {
    type Err = kit_ids::ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for CertificateId {
    type Error = kit_ids::ParseIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let valid = kit_ids::is_uuid(&text);
        if valid { Ok(Self(text)) } else { Err(kit_ids::ParseIdError::NotAUuid(text)) }
    }
}

impl From<CertificateId> for String {
    fn from(id: CertificateId) -> Self {
        id.0
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a certificate and a key do not form a pair, in the words clients know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    /// Both are well-formed and belong to different pairs.
    #[error("tls: private key does not match public key")]
    KeyMismatch,
    /// No certificate in the certificate's text.
    #[error("tls: failed to find any PEM data in certificate input")]
    NoCertificate,
    /// No key in the key's text.
    #[error("tls: failed to find any PEM data in key input")]
    NoKey,
    /// PEM is there, and what it holds cannot be used.
    #[error("tls: {0}")]
    Unusable(String),
}
