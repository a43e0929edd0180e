//! RFC 3339 times as they stand in messages: the offset is kept, the fraction has up to nine digits.

use chrono::{DateTime, FixedOffset, Timelike as _};

/// A message's time, with the offset it was written with.
pub type Timestamp = DateTime<FixedOffset>;

/// Parses `2026-01-02T03:04:05.000001Z`, strictly: capital T and Z, at most nanoseconds, no leap second.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let fraction = match bytes.get(19) {
        Some(b'.') => bytes[20..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
        _ => 0,
    };
    let is_strict = bytes.get(10) == Some(&b'T')
        && !bytes.ends_with(b"z")
        && fraction <= 9
        && bytes.get(17..19) != Some(b"60");
    is_strict.then(|| DateTime::parse_from_rfc3339(text).ok())?
}

/// The time of a message on the wire: microseconds, or nanoseconds where there are some.
pub(crate) fn wire(time: &Timestamp) -> String {
    let is_whole_micros = time.nanosecond().is_multiple_of(1000);
    let form = if is_whole_micros { "%Y-%m-%dT%H:%M:%S%.6f" } else { "%Y-%m-%dT%H:%M:%S%.9f" };
    format!("{}{}", time.format(form), offset(time))
}

/// A time in JSON: its own offset, the fraction without trailing zeros.
pub fn rfc3339(time: &Timestamp) -> String {
    let seconds = time.format("%Y-%m-%dT%H:%M:%S");
    let fraction = format!("{:09}", time.nanosecond());
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{seconds}{point}{fraction}{}", offset(time))
}

fn offset(time: &Timestamp) -> String {
    if time.offset().local_minus_utc() == 0 {
        "Z".to_owned()
    } else {
        time.format("%:z").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_and_write() {
        for (text, json, again) in [
            (
                "2026-01-02T03:04:05.000001Z",
                "2026-01-02T03:04:05.000001Z",
                "2026-01-02T03:04:05.000001Z",
            ),
            (
                "2026-01-02T03:04:05.00001Z",
                "2026-01-02T03:04:05.00001Z",
                "2026-01-02T03:04:05.000010Z",
            ),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
            (
                "2026-01-02T03:04:05.123456789+02:30",
                "2026-01-02T03:04:05.123456789+02:30",
                "2026-01-02T03:04:05.123456789+02:30",
            ),
            (
                "2026-01-02T03:04:05-01:00",
                "2026-01-02T03:04:05-01:00",
                "2026-01-02T03:04:05.000000-01:00",
            ),
            (
                "2026-01-02T03:04:05.1+00:00",
                "2026-01-02T03:04:05.1Z",
                "2026-01-02T03:04:05.100000Z",
            ),
        ] {
            let time = parse(text).unwrap();
            assert_eq!(rfc3339(&time), json);
            assert_eq!(wire(&time), again);
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "-",
            "",
            "2026-01-02",
            "2026-01-02t03:04:05Z",
            "2026-01-02T03:04:05z",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05.1234567890Z",
            "2026-01-02T03:04:05.Z",
            "2026-13-02T03:04:05Z",
            "2026-01-02T03:04:60Z",
            "2026-01-02T25:04:05Z",
            "Jan  2 03:04:05",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
