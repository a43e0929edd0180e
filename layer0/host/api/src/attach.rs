//! The request that opens an attach connection (spec/host.md §6). Its frames are [`crate::frame`].

use std::ops::BitOr;

use kit_http::null_as_default;
use kit_ids::JobId;
use serde::{Deserialize, Serialize};

use crate::omit::empty;

/// The protocol of the upgrade.
pub const UPGRADE_PROTOCOL: &str = "flynn-attach/0";

/// The body of `POST /attach`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachReq {
    /// The job, known or not yet.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub job_id: String,
    /// What to attach.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub flags: AttachFlags,
    /// Rows of the terminal.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub height: u16,
    /// Columns of the terminal.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "empty")]
    pub width: u16,
    /// Ours: where to go on after a lost connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offsets: Option<Offsets>,
}

impl AttachReq {
    /// A request without a terminal.
    pub fn new(job: &JobId, flags: AttachFlags) -> Self {
        Self { job_id: job.to_string(), flags, ..Self::default() }
    }
}

/// How many bytes of each stream a client has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offsets {
    /// Of standard output.
    pub stdout: u64,
    /// Of standard error.
    pub stderr: u64,
    /// Of the init log.
    pub init: u64,
}

/// What to attach; a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttachFlags(pub u32);

impl AttachFlags {
    /// Standard output.
    pub const STDOUT: Self = Self(1);
    /// Standard error.
    pub const STDERR: Self = Self(2);
    /// Standard input.
    pub const STDIN: Self = Self(4);
    /// What is in the log already.
    pub const LOGS: Self = Self(8);
    /// What comes from now on.
    pub const STREAM: Self = Self(16);
    /// What supervisor and init say.
    pub const INIT_LOG: Self = Self(32);

    /// Whether all bits of `other` are set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for AttachFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
