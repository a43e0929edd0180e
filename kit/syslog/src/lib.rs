//! RFC 5424 messages in RFC 6587 frames, with the limits Flynn's hosts and aggregators agree on.
//! Neither a syslog daemon nor a client: bytes to values and back.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod file;
mod frame;
mod message;
mod parse;
mod structured;
mod timestamp;

pub use file::{file_line, file_message};
pub use frame::{FrameCodec, FrameError, MAX_FRAME};
pub use message::{Message, Priority, Stream};
pub use parse::ParseError;
pub use structured::StructuredData;
pub use timestamp::{Timestamp, rfc3339};
