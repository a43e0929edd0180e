//! One message of a log file: `LEN <190>1 TIME HOST APP PROCID MSGID [flynn seq="N" end="M"] BODY\n`.
//! `end` is ours: how far into its stream the message goes, so that a daemon that comes back knows where
//! to go on.

use chrono::{DateTime, SecondsFormat, Utc};
use host_api::frame::Stream;
use kit_ids::JobId;

/// Longest line of a message; longer ones are cut.
pub(crate) const MAX_LINE: usize = 10_000;
/// Longest framed message that is read back.
const MAX_MESSAGE: usize = 11_000;

/// Whose messages: what stands in their heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) host: String,
    /// The app's id, or nothing.
    pub(crate) app: Option<kit_ids::AppId>,
    pub(crate) process_type: String,
    pub(crate) job: JobId,
}

/// One line of a job's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) job: String,
    pub(crate) stream: Stream,
    pub(crate) seq: u64,
    /// Offset in its stream behind the line.
    pub(crate) end: u64,
    pub(crate) body: Vec<u8>,
}

/// The framed bytes of a message.
pub(crate) fn encode(origin: &Origin, at: DateTime<Utc>, message: &Message) -> Vec<u8> {
    let app = origin.app.as_ref().map_or("-", |app| app.as_str());
    let process = match origin.process_type.as_str() {
        "" => origin.job.to_string(),
        kind => format!("{kind}.{}", origin.job),
    };
    let head = format!(
        "<190>1 {} {} {app} {process} ID{} [flynn seq=\"{}\" end=\"{}\"] ",
        at.to_rfc3339_opts(SecondsFormat::Micros, true),
        origin.host,
        message.stream.number(),
        message.seq,
        message.end,
    );
    let mut framed = format!("{} {head}", head.len() + message.body.len()).into_bytes();
    framed.extend_from_slice(&message.body);
    framed.push(b'\n');
    framed
}

/// What the beginning of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A message of so many bytes; none of ours when there is no content.
    Frame(usize, Option<Message>),
    /// The rest is still to come.
    Incomplete,
    /// No frame begins here; so many bytes are to be skipped.
    Garbage(usize),
}

/// Reads the frame at the beginning of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let Some(blank) = bytes.iter().take(6).position(|byte| *byte == b' ') else {
        return if bytes.len() < 6 { Parsed::Incomplete } else { Parsed::Garbage(skip(bytes)) };
    };
    let length =
        std::str::from_utf8(&bytes[..blank]).ok().and_then(|digits| digits.parse::<usize>().ok());
    let Some(length) = length.filter(|length| *length <= MAX_MESSAGE) else {
        return Parsed::Garbage(skip(bytes));
    };
    let whole = blank + 1 + length + 1;
    match bytes.get(blank + 1..whole) {
        None => Parsed::Incomplete,
        Some(framed) if framed.last() == Some(&b'\n') => {
            Parsed::Frame(whole, content(&framed[..length]))
        }
        Some(_) => Parsed::Garbage(skip(bytes)),
    }
}

/// Up to behind the next line end.
fn skip(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1)
}

fn content(message: &[u8]) -> Option<Message> {
    let head_end = message.windows(3).position(|window| window == b"\"] ")? + 3;
    let head = std::str::from_utf8(&message[..head_end]).ok()?;
    let mut fields = head.split(' ').skip(4);
    let process = fields.next()?;
    let stream = fields.next()?.strip_prefix("ID")?.parse().ok().and_then(Stream::from_number)?;
    let job = process.split_once('.').map_or(process, |(_, job)| job);
    let number = |name: &str| {
        let rest = head.split(name).nth(1)?;
        rest.split('"').nth(1)?.parse::<u64>().ok()
    };
    let (seq, end) = (number(" seq=")?, number(" end=")?);
    Some(Message { job: job.to_owned(), stream, seq, end, body: message[head_end..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            host: "host1".into(),
            app: Some("0f0e0d0c-1111-4222-8333-abcdefabcdef".parse().unwrap()),
            process_type: "web".into(),
            job: "host1-j.1".parse().unwrap(),
        }
    }

    #[test]
    fn a_message_has_the_form_of_the_wire_and_reads_back() {
        let at = "2026-11-21T04:25:57.8974Z".parse().unwrap();
        let message = Message {
            job: "host1-j.1".into(),
            stream: Stream::Stderr,
            seq: 7,
            end: 30,
            body: b"hi \"] x".to_vec(),
        };
        let framed = encode(&origin(), at, &message);
        assert_eq!(
            String::from_utf8_lossy(&framed),
            "128 <190>1 2026-11-21T04:25:57.897400Z host1 0f0e0d0c-1111-4222-8333-abcdefabcdef web.host1-j.1 ID2 [flynn seq=\"7\" end=\"30\"] hi \"] x\n"
        );
        assert_eq!(parse(&framed), Parsed::Frame(framed.len(), Some(message)));
        assert_eq!(parse(&framed[..20]), Parsed::Incomplete);
        assert_eq!(parse(b"torn\n12 "), Parsed::Garbage(5));
    }
}
