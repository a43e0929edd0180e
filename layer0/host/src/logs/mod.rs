//! Logs of jobs: one file per app, rotated once, framed RFC 5424 messages. The files are the only
//! source: who follows a job, and every sink, reads them, woken by the writer, so history and live lines
//! join without a gap and without a line twice.

mod feed;
mod reader;
mod record;
mod splitter;
mod tail;
mod writer;

pub(crate) use feed::Feed;
pub(crate) use reader::LogReader;
pub(crate) use record::{Message, Origin, Position};
pub(crate) use splitter::Splitter;
pub(crate) use tail::Start;
pub(crate) use writer::Logs;
