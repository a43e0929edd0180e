//! Reading a message, with the limits of the original: version 1, a time, one element of structured data.

use bytes::Bytes;

use crate::message::{Message, Priority};
use crate::structured::StructuredData;
use crate::timestamp;

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// `<0>` to `<191>` is missing.
    #[error("syslog priority is missing or not between 0 and 191")]
    Priority,
    /// Another version than 1.
    #[error("syslog version is not 1")]
    Version,
    /// The message ends in its header.
    #[error("syslog message ends before its {0}")]
    Truncated(&'static str),
    /// A header field is empty or not UTF-8.
    #[error("syslog field {0} is not readable")]
    Field(&'static str),
    /// Not an RFC 3339 time.
    #[error("syslog timestamp {0:?} is not an RFC 3339 time")]
    Timestamp(String),
    /// Neither `-` nor an element.
    #[error("syslog structured data is neither - nor a whole element")]
    StructuredData,
}

impl Message {
    /// Reads a message. `-` is an empty field. After the structured data one byte is skipped, as the
    /// original does: the blank before the text, or the bracket of a second element.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (priority, rest) = priority(bytes)?;
        let rest = rest.strip_prefix(b"1 ").ok_or(ParseError::Version)?;
        let (time, rest) = text(rest, "timestamp")?;
        let timestamp =
            timestamp::parse(time).ok_or_else(|| ParseError::Timestamp(time.to_owned()))?;
        let (hostname, rest) = field(rest, "hostname")?;
        let (app_name, rest) = field(rest, "app name")?;
        let (proc_id, rest) = field(rest, "process id")?;
        let (msg_id, rest) = field(rest, "message id")?;
        let (structured_data, rest) = match rest.strip_prefix(b"-") {
            Some(rest) if rest.first().is_none_or(|byte| *byte == b' ') => (None, rest),
            Some(_) => return Err(ParseError::StructuredData),
            None => {
                let split = StructuredData::split(rest);
                let (element, rest) = split.ok_or(ParseError::StructuredData)?;
                (Some(element), rest)
            }
        };
        let msg = Bytes::copy_from_slice(rest.get(1..).unwrap_or_default());
        Ok(Self { priority, timestamp, hostname, app_name, proc_id, msg_id, structured_data, msg })
    }
}

fn priority(bytes: &[u8]) -> Result<(Priority, &[u8]), ParseError> {
    let inner = bytes.strip_prefix(b"<").ok_or(ParseError::Priority)?;
    let end = inner.iter().take(4).position(|byte| *byte == b'>').ok_or(ParseError::Priority)?;
    let (digits, rest) = (&inner[..end], &inner[end + 1..]);
    let is_canonical = match digits {
        [b'0'] => true,
        [b'1'..=b'9', more @ ..] => more.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let value = std::str::from_utf8(digits).ok().filter(|_| is_canonical);
    let value = value.and_then(|text| text.parse().ok()).and_then(Priority::new);
    Ok((value.ok_or(ParseError::Priority)?, rest))
}

/// A header field up to its blank; `-` is empty.
fn field<'a>(bytes: &'a [u8], name: &'static str) -> Result<(String, &'a [u8]), ParseError> {
    let (value, rest) = text(bytes, name)?;
    Ok((if value == "-" { String::new() } else { value.to_owned() }, rest))
}

fn text<'a>(bytes: &'a [u8], name: &'static str) -> Result<(&'a str, &'a [u8]), ParseError> {
    let end = bytes.iter().position(|byte| *byte == b' ').ok_or(ParseError::Truncated(name))?;
    let value = std::str::from_utf8(&bytes[..end]).map_err(|_| ParseError::Field(name))?;
    if value.is_empty() { Err(ParseError::Field(name)) } else { Ok((value, &bytes[end + 1..])) }
}
