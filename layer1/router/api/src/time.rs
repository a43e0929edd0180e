//! Times of routes: RFC 3339 with the fraction's trailing zeros trimmed, and the year 1 for "not
//! set", as the wire has it. Not a clock.

use chrono::{DateTime, Utc};
use serde::{Deserialize as _, Deserializer, Serializer};

/// The time that stands for "not set": `0001-01-01T00:00:00Z`.
pub fn zero_time() -> DateTime<Utc> {
    const SECONDS_BEFORE_THE_EPOCH: i64 = -62_135_596_800;
    DateTime::from_timestamp(SECONDS_BEFORE_THE_EPOCH, 0).unwrap_or_default()
}

/// Writes a time; for `#[serde(with)]`.
pub(crate) fn serialize<S: Serializer>(
    time: &DateTime<Utc>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(time))
}

/// Reads a time; for `#[serde(with)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<DateTime<Utc>, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    let time = DateTime::parse_from_rfc3339(&text).map_err(serde::de::Error::custom)?;
    Ok(time.with_timezone(&Utc))
}

fn text(time: &DateTime<Utc>) -> String {
    let seconds = time.format("%Y-%m-%dT%H:%M:%S");
    let fraction = format!("{:09}", time.timestamp_subsec_nanos() % 1_000_000_000);
    match fraction.trim_end_matches('0') {
        "" => format!("{seconds}Z"),
        digits => format!("{seconds}.{digits}Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_were_read() {
        for written in [
            "0001-01-01T00:00:00Z",
            "2026-11-21T04:45:00Z",
            "2026-11-21T04:45:00.1Z",
            "2026-11-21T04:45:00.123456Z",
            "2026-11-21T04:45:00.000000001Z",
        ] {
            let time = DateTime::parse_from_rfc3339(written).unwrap().with_timezone(&Utc);
            assert_eq!(text(&time), written);
        }
        assert_eq!(text(&zero_time()), "0001-01-01T00:00:00Z");
    }
}
