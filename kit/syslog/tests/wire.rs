//! The wire format: worked examples, what is refused, and properties checked against another parser.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use kit_syslog::{
    FrameCodec, FrameError, MAX_FRAME, Message, ParseError, Priority, Stream, StructuredData,
    Timestamp, rfc3339,
};
use proptest::prelude::*;
use tokio_util::codec::{Decoder as _, Encoder as _};

const HELLO: &str =
    r#"<190>1 2026-01-02T03:04:05.000001Z host1 app1 web.host1-aaa ID1 [flynn seq="1"] hello"#;

#[test]
fn the_worked_example_reads_and_writes() {
    let framed = format!("85 {HELLO}");
    let mut bytes = BytesMut::from(framed.as_str());
    let frame = FrameCodec::stream().decode(&mut bytes).unwrap().unwrap();
    let message = Message::parse(&frame).unwrap();
    assert_eq!(message.priority, Priority::FLYNN);
    assert_eq!(rfc3339(&message.timestamp), "2026-01-02T03:04:05.000001Z");
    assert_eq!((message.hostname.as_str(), message.app_name.as_str()), ("host1", "app1"));
    assert_eq!(message.process(), ("web", "host1-aaa"));
    assert_eq!(message.stream(), Stream::Stdout);
    assert_eq!(message.structured_data, Some(StructuredData::flynn(1)));
    assert_eq!(message.msg, "hello");
    let mut written = BytesMut::new();
    FrameCodec::stream().encode(message.encode(), &mut written).unwrap();
    assert_eq!(written, framed.as_bytes());
}

/// A message with one part replaced.
fn with(part: &str, by: &str) -> Result<Message, ParseError> {
    assert!(HELLO.contains(part));
    Message::parse(HELLO.replacen(part, by, 1).as_bytes())
}

#[test]
fn the_limits_of_the_original_hold() {
    for (part, by, want) in [
        ("<190>", "<192>", ParseError::Priority),
        ("<190>", "<>", ParseError::Priority),
        ("<190>", "<1900>", ParseError::Priority),
        ("<190>", "<+1>", ParseError::Priority),
        ("<190>", "190", ParseError::Priority),
        (">1 ", ">2 ", ParseError::Version),
        (">1 ", ">11 ", ParseError::Version),
        ("2026-01-02T03:04:05.000001Z", "-", ParseError::Timestamp("-".into())),
        ("host1 ", " ", ParseError::Field("hostname")),
        (" [flynn seq=\"1\"] hello", "", ParseError::Truncated("message id")),
        ("[flynn seq=\"1\"]", "", ParseError::StructuredData),
        ("[flynn seq=\"1\"]", "[flynn seq=\"1\"", ParseError::StructuredData),
        ("[flynn seq=\"1\"]", "-x", ParseError::StructuredData),
    ] {
        assert_eq!(with(part, by), Err(want), "{by}");
    }
    for priority in ["<0>", "<9>", "<191>"] {
        assert!(with("<190>", priority).is_ok());
    }
    let empty = with("host1 app1 web.host1-aaa ID1", "- - - -").unwrap();
    assert_eq!((empty.hostname + &empty.app_name + &empty.proc_id + &empty.msg_id).as_str(), "");
}

#[test]
fn the_text_is_kept_as_it_is() {
    for (by, want) in [
        ("[flynn seq=\"1\"]", ""),
        ("[flynn seq=\"1\"] ", ""),
        ("[flynn seq=\"1\"]  two blanks ", " two blanks "),
        ("[flynn seq=\"1\"] line\n", "line\n"),
        ("[flynn seq=\"1\"] \u{feff}bom", "\u{feff}bom"),
        ("- no data", "no data"),
        ("-", ""),
        // A second element loses its bracket and becomes text.
        ("[flynn seq=\"1\"][b x=\"y\"] z", "b x=\"y\"] z"),
    ] {
        let message = with("[flynn seq=\"1\"] hello", by).unwrap();
        assert_eq!(message.msg, want.as_bytes(), "{by}");
    }
}

fn frames(bytes: &[u8]) -> (Vec<Bytes>, Option<FrameError>) {
    let (mut bytes, mut found) = (BytesMut::from(bytes), Vec::new());
    loop {
        match FrameCodec::stream().decode(&mut bytes) {
            Ok(Some(frame)) => found.push(frame),
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        }
    }
}

#[test]
fn a_wrong_length_ends_the_stream_after_the_frames_before_it() {
    for (tail, want) in [
        ("\n3 abc", "frame length \"\\n3 abc\" is not a number"),
        (" 3 abc", "frame length \" 3 abc\" is not a number"),
        ("x", "frame length \"x\" is not a number"),
        ("-3 abc", "frame length \"-3 abc\" is not a number"),
        ("11001 x", "frame of 11001 bytes is longer than 11000"),
        ("99999 x", "frame of 99999 bytes is longer than 11000"),
        ("000001 x", "frame length has more than 5 digits"),
        ("123456", "frame length has more than 5 digits"),
    ] {
        let (found, error) = frames(format!("2 ab{tail}").as_bytes());
        assert_eq!(found, ["ab"], "{tail:?}");
        assert_eq!(error.unwrap().to_string(), want);
    }
    for incomplete in ["", "5", "12345", "5 ", "5 abcd"] {
        let (found, error) = frames(incomplete.as_bytes());
        assert!(found.is_empty() && error.is_none(), "{incomplete:?}");
    }
    assert_eq!(frames(b"0 00002 ab").0, [&b""[..], b"ab"]);
}

#[test]
fn the_longest_frame_passes_and_no_longer_one_is_written() {
    let mut bytes = BytesMut::new();
    FrameCodec::stream().encode(vec![b'x'; MAX_FRAME], &mut bytes).unwrap();
    assert_eq!(frames(&bytes).0[0].len(), MAX_FRAME);
    let error = FrameCodec::stream().encode(vec![b'x'; MAX_FRAME + 1], &mut bytes).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { .. }));
}

#[test]
fn a_file_holds_a_message_a_line_and_what_is_torn_is_none() {
    for (message, line) in [("ab", "2 ab\n"), ("", "0 \n"), ("c d", "3 c d\n")] {
        assert_eq!(kit_syslog::file_line(message.as_bytes()), line.as_bytes());
        let line = line.trim_end_matches('\n').as_bytes();
        assert_eq!(kit_syslog::file_message(line), Some(message.as_bytes()));
    }
    for torn in ["", "2", "2 a", "2 abc", " ab", "-2 ab", "+2 ab", "x ab", "123456 ab", "2ab"] {
        assert_eq!(kit_syslog::file_message(torn.as_bytes()), None, "{torn:?}");
    }
}

#[test]
fn an_element_grows_by_numbers() {
    let element = StructuredData::flynn(7).with_number("end", 30);
    assert_eq!(element.as_bytes(), br#"[flynn seq="7" end="30"]"#);
    assert_eq!((element.flynn_seq(), element.number("end")), (Some(7), Some(30)));
    assert_eq!(element.number("other"), None);
}

/// Header fields: printable, no blank, not `-` alone, which means empty.
const ANY_FIELD: &str = "|[!-,.-~][!-~]{0,40}";

/// Fields that the other parser does not take for something else.
const PLAIN_FIELD: &str = "|[A-Za-z][A-Za-z.]{0,20}";

prop_compose! {
    fn message(field: &'static str)(
        priority in 0_u8..=191,
        seconds in 0_i64..4_000_000_000,
        nanos in prop_oneof![Just(0), (0_u32..1_000_000).prop_map(|micros| micros * 1000), 0_u32..1_000_000_000],
        minutes in prop_oneof![Just(0), -1439_i32..1440],
        fields in (field, field, field, field),
        seq in proptest::option::of(any::<u64>()),
        msg in proptest::collection::vec(any::<u8>(), 0..200),
    ) -> Message {
        let utc = chrono::DateTime::from_timestamp(seconds, nanos).unwrap();
        let offset = chrono::FixedOffset::east_opt(minutes * 60).unwrap();
        let timestamp: Timestamp = utc.with_timezone(&offset);
        let (hostname, app_name, proc_id, msg_id) = fields;
        Message {
            priority: Priority::new(priority).unwrap(),
            timestamp, hostname, app_name, proc_id, msg_id,
            structured_data: seq.map(StructuredData::flynn),
            msg: msg.into(),
        }
    }
}

proptest! {
    #[test]
    fn a_message_reads_back_as_written(message in message(ANY_FIELD)) {
        prop_assert_eq!(Message::parse(&message.encode()).unwrap(), message);
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(Message::parse(&bytes));
        drop(frames(&bytes));
    }

    #[test]
    fn a_damaged_message_never_panics(message in message(ANY_FIELD), at in any::<proptest::sample::Index>(), by in any::<u8>()) {
        let mut bytes = message.encode();
        let at = at.index(bytes.len());
        bytes[at] = by;
        drop(Message::parse(&bytes));
        drop(Message::parse(&bytes[..at]));
    }

    #[test]
    fn frames_arrive_whole_in_any_pieces(
        lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..10),
        pieces in proptest::collection::vec(1_usize..50, 1..10),
    ) {
        let mut wire = BytesMut::new();
        for line in &lines {
            FrameCodec::stream().encode(line, &mut wire).unwrap();
        }
        let (mut codec, mut buffer, mut found) = (FrameCodec::stream(), BytesMut::new(), Vec::new());
        let mut sizes = pieces.iter().cycle();
        while !wire.is_empty() {
            let size = (*sizes.next().unwrap()).min(wire.len());
            buffer.extend_from_slice(&wire.split_to(size));
            while let Some(frame) = codec.decode(&mut buffer).unwrap() {
                found.push(frame.to_vec());
            }
        }
        prop_assert_eq!(found, lines);
    }

    /// The oracle is lenient and trims; on text that leaves it no choice both must agree.
    #[test]
    fn another_parser_reads_the_same(message in message(PLAIN_FIELD), text in "[a-z]([a-z ]{0,40}[a-z])?") {
        let message = Message { msg: text.into(), ..message };
        let wire = String::from_utf8(message.encode()).unwrap();
        let other = syslog_loose::parse_message(&wire, syslog_loose::Variant::RFC5424);
        let field = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        prop_assert_eq!(other.timestamp, Some(message.timestamp));
        prop_assert_eq!(other.hostname.map(str::to_owned), field(&message.hostname));
        prop_assert_eq!(other.appname.map(str::to_owned), field(&message.app_name));
        prop_assert_eq!(other.msgid.map(str::to_owned), field(&message.msg_id));
        prop_assert_eq!(other.procid.map(|id| id.to_string()), field(&message.proc_id));
        prop_assert_eq!(other.msg, text_of(&message));
        let seq = other.structured_data.first().and_then(|element| element.params().next());
        let want = message.structured_data.and_then(|element| element.flynn_seq());
        prop_assert_eq!(seq.map(|(_, value)| value), want.map(|seq| seq.to_string()));
    }
}

fn text_of(message: &Message) -> String {
    String::from_utf8_lossy(&message.msg).into_owned()
}
