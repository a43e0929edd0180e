//! Logs of jobs: one file per app, rotated once, framed RFC 5424 messages. The files are the only
//! source: who follows a job reads them, woken by the writer, so history and live lines join without a
//! gap and without a line twice.

mod reader;
mod record;
mod splitter;
mod writer;

pub(crate) use reader::{LogReader, Start};
pub(crate) use record::Origin;
pub(crate) use splitter::Splitter;
pub(crate) use writer::Logs;
