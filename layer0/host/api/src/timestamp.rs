//! Time as a host writes it: RFC 3339 in UTC, nanoseconds without trailing zeros, and a zero time for
//! what has not happened.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, TimeZone as _, Utc};
use kit_clock::Wall;

/// A point in time on the wire. Its default is the time that was never set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub DateTime<Utc>);

impl Timestamp {
    /// Whether this is the time that was never set.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// The wall clock's reading, none for the zero time and times before 1970.
    pub fn wall(self) -> Option<Wall> {
        let nanos = self.0.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok())?;
        Some(Wall::from_epoch(std::time::Duration::from_nanos(nanos)))
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self(Utc.with_ymd_and_hms(1, 1, 1, 0, 0, 0).single().unwrap_or_default())
    }
}

impl From<Wall> for Timestamp {
    fn from(wall: Wall) -> Self {
        Self(Utc.timestamp_nanos(i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.to_rfc3339_opts(SecondsFormat::Nanos, true);
        let (seconds, fraction) =
            nanos.trim_end_matches('Z').split_once('.').unwrap_or((&nanos, ""));
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{seconds}Z"),
            digits => write!(f, "{seconds}.{digits}Z"),
        }
    }
}

impl FromStr for Timestamp {
    type Err = chrono::ParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text).map(|at| Self(at.with_timezone(&Utc)))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_written() {
        for text in
            ["2026-11-21T04:31:15.840129328Z", "2021-01-01T00:00:01.5Z", "0001-01-01T00:00:00Z"]
        {
            let read: Timestamp = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
            assert_eq!(read.wall().is_none(), read.is_zero());
            if let Some(wall) = read.wall() {
                assert_eq!(Timestamp::from(wall), read);
            }
        }
    }
}
