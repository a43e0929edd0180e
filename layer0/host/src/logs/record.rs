//! One message of a log file: an RFC 5424 message whose structured data is
//! `[flynn seq="N" end="M"]`. `end` is ours: how far into its stream the message goes, so that a daemon
//! that comes back knows where to go on.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use host_api::frame::Stream;
use kit_ids::JobId;
use kit_syslog::{Priority, StructuredData};

/// Longest line of a message; longer ones are cut.
pub(crate) const MAX_LINE: usize = 10_000;

/// Whose messages: what stands in their heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) host: String,
    /// The app's id, or nothing.
    pub(crate) app: Option<kit_ids::AppId>,
    pub(crate) process_type: String,
    pub(crate) job: JobId,
}

/// Where a message stands among all of the host: they are numbered, and their times never go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) time: DateTime<Utc>,
    pub(crate) seq: u64,
}

/// One line of a job's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) job: String,
    pub(crate) stream: Stream,
    /// Offset in its stream behind the line.
    pub(crate) end: u64,
    pub(crate) body: Bytes,
}

/// The file's line of a message, with its newline.
pub(crate) fn encode(
    origin: &Origin,
    position: Position,
    (stream, end, body): (Stream, u64, Vec<u8>),
) -> Vec<u8> {
    let app = origin.app.as_ref().map_or("", |app| app.as_str());
    let proc_id = match origin.process_type.as_str() {
        "" => origin.job.to_string(),
        kind => format!("{kind}.{}", origin.job),
    };
    let message = kit_syslog::Message {
        priority: Priority::FLYNN,
        timestamp: position.time.fixed_offset(),
        hostname: origin.host.clone(),
        app_name: app.to_owned(),
        proc_id,
        msg_id: msg_id(stream).to_owned(),
        structured_data: Some(StructuredData::flynn(position.seq).with_number("end", end)),
        msg: body.into(),
    };
    kit_syslog::file_line(&message.encode())
}

impl Message {
    /// The message in a line without its newline; None for a torn or foreign one.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let message = kit_syslog::Message::parse(kit_syslog::file_message(line)?).ok()?;
        let end = message.structured_data.as_ref()?.number("end")?;
        let stream = match message.stream() {
            kit_syslog::Stream::Stdout => Stream::Stdout,
            kit_syslog::Stream::Stderr => Stream::Stderr,
            kit_syslog::Stream::Init => Stream::Init,
            kit_syslog::Stream::Unknown => return None,
        };
        Some(Self { job: message.process().1.to_owned(), stream, end, body: message.msg })
    }
}

impl Position {
    /// The position of the message in a line without its newline.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let message = kit_syslog::Message::parse(kit_syslog::file_message(line)?).ok()?;
        let seq = message.structured_data?.flynn_seq()?;
        Some(Self { time: message.timestamp.to_utc(), seq })
    }
}

fn msg_id(stream: Stream) -> &'static str {
    let stream = match stream {
        Stream::Stdout => kit_syslog::Stream::Stdout,
        Stream::Stderr => kit_syslog::Stream::Stderr,
        Stream::Init => kit_syslog::Stream::Init,
    };
    stream.msg_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_form_of_the_wire_and_reads_back() {
        let origin = Origin {
            host: "host1".into(),
            app: Some("0f0e0d0c-1111-4222-8333-abcdefabcdef".parse().unwrap()),
            process_type: "web".into(),
            job: "host1-j.1".parse().unwrap(),
        };
        let time = "2026-11-21T04:25:57.8974Z".parse().unwrap();
        let position = Position { time, seq: 7 };
        let line = encode(&origin, position, (Stream::Stderr, 30, b"hi \"] x".to_vec()));
        assert_eq!(
            String::from_utf8_lossy(&line),
            "128 <190>1 2026-11-21T04:25:57.897400Z host1 0f0e0d0c-1111-4222-8333-abcdefabcdef web.host1-j.1 ID2 [flynn seq=\"7\" end=\"30\"] hi \"] x\n"
        );
        let line = &line[..line.len() - 1];
        let message = Message {
            job: "host1-j.1".into(),
            stream: Stream::Stderr,
            end: 30,
            body: Bytes::from_static(b"hi \"] x"),
        };
        assert_eq!(Message::parse(line), Some(message));
        assert_eq!(Position::parse(line), Some(position));
        assert_eq!(Message::parse(&line[..20]), None);
    }
}
