//! A message and how it is written.

use bytes::Bytes;

use crate::structured::StructuredData;
use crate::timestamp::{self, Timestamp};

/// Facility and severity in one number, 0 to 191.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority(u8);

impl Priority {
    /// What Flynn's lines have: facility 23 (local7), severity 6 (informational).
    pub const FLYNN: Self = Self(190);

    /// A priority; None above 191.
    pub fn new(value: u8) -> Option<Self> {
        (value <= 191).then_some(Self(value))
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// Which of a job's streams a line is from: the MSGID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output, `ID1`.
    Stdout,
    /// Standard error, `ID2`.
    Stderr,
    /// The log of the job's init, `ID3`.
    Init,
    /// Any other MSGID.
    Unknown,
}

impl Stream {
    /// The stream of a MSGID.
    pub fn of_msg_id(msg_id: &str) -> Self {
        match msg_id {
            "ID1" => Self::Stdout,
            "ID2" => Self::Stderr,
            "ID3" => Self::Init,
            _ => Self::Unknown,
        }
    }

    /// The stream's MSGID; `-` for an unknown one.
    pub fn msg_id(self) -> &'static str {
        match self {
            Self::Stdout => "ID1",
            Self::Stderr => "ID2",
            Self::Init => "ID3",
            Self::Unknown => "-",
        }
    }

    /// The stream's name in the log API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Init => "init",
            Self::Unknown => "unknown",
        }
    }
}

/// An RFC 5424 message with at most one element of structured data. Empty header fields are written `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Facility and severity.
    pub priority: Priority,
    /// When the line was written.
    pub timestamp: Timestamp,
    /// Flynn: the host's id.
    pub hostname: String,
    /// Flynn: the app's id.
    pub app_name: String,
    /// Flynn: `<process type>.<job id>`, or the job id alone.
    pub proc_id: String,
    /// Flynn: the stream.
    pub msg_id: String,
    /// Flynn: `[flynn seq="N"]`.
    pub structured_data: Option<StructuredData>,
    /// The line: any bytes.
    pub msg: Bytes,
}

impl Message {
    /// The message on the wire, without a frame.
    pub fn encode(&self) -> Vec<u8> {
        let structured = self.structured_data.as_ref().map_or(&b"-"[..], StructuredData::as_bytes);
        let head = format!(
            "<{}>1 {} {} {} {} {} ",
            self.priority.get(),
            timestamp::wire(&self.timestamp),
            field(&self.hostname),
            field(&self.app_name),
            field(&self.proc_id),
            field(&self.msg_id),
        );
        let mut bytes = Vec::with_capacity(head.len() + structured.len() + self.msg.len() + 1);
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(structured);
        if !self.msg.is_empty() {
            bytes.push(b' ');
            bytes.extend_from_slice(&self.msg);
        }
        bytes
    }

    /// The stream the line is from.
    pub fn stream(&self) -> Stream {
        Stream::of_msg_id(&self.msg_id)
    }

    /// The PROCID's process type (empty where there is none) and job id.
    pub fn process(&self) -> (&str, &str) {
        self.proc_id.split_once('.').unwrap_or(("", &self.proc_id))
    }
}

/// A header field. Blanks would shift all that follows, so they become dashes.
fn field(text: &str) -> String {
    let clean = |c: char| if c.is_whitespace() || c.is_control() { '-' } else { c };
    if text.is_empty() { "-".to_owned() } else { text.chars().map(clean).collect() }
}
