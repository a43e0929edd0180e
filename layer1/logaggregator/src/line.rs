//! A log line: what a host sent, what identifies it, and how it reads in answers.

use kit_syslog::{Message, ParseError, Timestamp, rfc3339};

/// A line with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) message: Message,
    pub(crate) seq: u64,
}

/// Why bytes are no line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("line is no syslog message")]
    Syslog(#[from] ParseError),
    #[error("line has no structured data [flynn seq=\"N\"]")]
    NoSeq,
}

/// What a line takes in memory besides its text: the struct, its place in the buffer, allocations.
const OVERHEAD: usize = 320;

impl Line {
    pub(crate) fn parse(frame: &[u8]) -> Result<Self, LineError> {
        let message = Message::parse(frame)?;
        let element = message.structured_data.as_ref();
        let seq =
            element.and_then(kit_syslog::StructuredData::flynn_seq).ok_or(LineError::NoSeq)?;
        Ok(Self { message, seq })
    }

    pub(crate) fn time(&self) -> &Timestamp {
        &self.message.timestamp
    }

    /// Whether both are the same line, sent twice. The host counts: two hosts may number alike.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (a, b) = (&self.message, &other.message);
        a.timestamp == b.timestamp
            && a.structured_data == b.structured_data
            && a.hostname == b.hostname
    }

    /// What the line takes in memory, about.
    pub(crate) fn size(&self) -> usize {
        let message = &self.message;
        let header = message.hostname.len() + message.app_name.len() + message.proc_id.len();
        OVERHEAD + header + message.msg_id.len() + message.msg.len()
    }

    /// Appends the line as answers have it: JSON, keys in this order, empty ones left out, a newline.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (process_type, job) = self.message.process();
        out.push(b'{');
        write_field(out, "host_id", self.message.hostname.as_bytes());
        write_field(out, "job_id", job.as_bytes());
        write_field(out, "msg", &self.message.msg);
        write_field(out, "process_type", process_type.as_bytes());
        write_field(out, "source", b"app");
        write_field(out, "stream", self.message.stream().as_str().as_bytes());
        write_field(out, "timestamp", rfc3339(self.time()).as_bytes());
        if out.last() == Some(&b',') {
            out.pop();
        }
        out.extend_from_slice(b"}\n");
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    out.extend_from_slice(format!("\"{name}\":\"").as_bytes());
    for chunk in value.utf8_chunks() {
        write_text(out, chunk.valid());
        for _ in chunk.invalid() {
            out.extend_from_slice(br"\ufffd");
        }
    }
    out.extend_from_slice(b"\",");
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let quoted = kit_http::encode_json(text).unwrap_or_default();
    out.extend_from_slice(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(frame: &[u8]) -> String {
        let mut out = Vec::new();
        Line::parse(frame).unwrap().write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_reads_as_the_log_api_has_it() {
        let head =
            r#"<190>1 2026-01-02T03:04:05.12+02:00 host1 app1 web.host1-a ID3 [flynn seq="1"] "#;
        let start = r#"{"host_id":"host1","job_id":"host1-a","msg":""#;
        let end = r#"","process_type":"web","source":"app","stream":"init","timestamp":"2026-01-02T03:04:05.12+02:00"}"#;
        for (text, want) in [
            (&b"plain"[..], "plain"),
            (b"<&>", r"\u003c\u0026\u003e"),
            ("\u{2028}\u{2029}é".as_bytes(), r"\u2028\u2029é"),
            (b"\"\\/", r#"\"\\/"#),
            (b"\t\n\r", r"\t\n\r"),
            (b"\x00\x08\x0c\x1b\x7f", "\\u0000\\u0008\\u000c\\u001b\x7f"),
            // One escape for each wrong byte, also of a character that is cut off.
            (b"a\xffb\xe2\x82c\xe2\x82", r"a\ufffdb\ufffd\ufffdc\ufffd\ufffd"),
        ] {
            let frame = [head.as_bytes(), text].concat();
            assert_eq!(json(&frame), format!("{start}{want}{end}\n"));
        }
    }

    #[test]
    fn a_line_without_a_number_is_none() {
        let line = |data: &str| format!("<190>1 2026-01-02T03:04:05Z - - - - {data} x");
        assert!(Line::parse(line("[flynn seq=\"7\"]").as_bytes()).is_ok());
        for data in ["-", "[flynn]", "[flynn seq=\"x\"]", "[other seq=\"7\"]"] {
            assert!(matches!(Line::parse(line(data).as_bytes()), Err(LineError::NoSeq)), "{data}");
        }
        assert!(matches!(Line::parse(b"hello"), Err(LineError::Syslog(_))));
    }
}
