//! Times and spans as `flynn` prints them (spec/cli.md A0).

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// `3 minutes ago`; nothing for a time that was never set.
pub(crate) fn ago(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    match at {
        Some(at) if at.timestamp() > UNSET_BEFORE => format!("{} ago", rough_span(now - at)),
        Some(_) | None => String::new(),
    }
}

/// Times before the year 2 mean "never" on this wire.
const UNSET_BEFORE: i64 = -62_104_000_000;

fn rough_span(span: chrono::TimeDelta) -> String {
    let (seconds, minutes) = (span.num_seconds(), span.num_minutes());
    let (hours, days) = (span.num_hours(), span.num_days());
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if days < 14 => format!("{days} days"),
        () if days < 90 => format!("{} weeks", days / 7),
        () if days < 730 => format!("{} months", days / 30),
        () => format!("{} years", days / 365),
    }
}

/// A span as Go prints it: `69.621597ms`, `1m30.5s`, `2h0m0s`.
pub(crate) fn go_duration(span: Duration) -> String {
    let nanos = span.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `value / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A time as Go's default format prints it: `2026-11-21 04:27:14.074354 +0000 UTC`.
pub(crate) fn go_time(at: DateTime<Utc>) -> String {
    let nanos = at.to_rfc3339_opts(SecondsFormat::Nanos, true);
    let plain = nanos.trim_end_matches('Z').replace('T', " ");
    format!("{} +0000 UTC", plain.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_times_get_coarser_with_age() {
        let now = Utc::now();
        for (seconds, want) in [
            (0, "Less than a second ago"),
            (1, "1 seconds ago"),
            (59, "59 seconds ago"),
            (60, "About a minute ago"),
            (119, "About a minute ago"),
            (120, "2 minutes ago"),
            (3600, "About an hour ago"),
            (7200, "2 hours ago"),
            (47 * 3600, "47 hours ago"),
            (48 * 3600, "2 days ago"),
            (14 * 86_400, "2 weeks ago"),
            (90 * 86_400, "3 months ago"),
            (730 * 86_400, "2 years ago"),
        ] {
            assert_eq!(ago(Some(now - chrono::TimeDelta::seconds(seconds)), now), want);
        }
        assert_eq!(ago(None, now), "");
        let zero: DateTime<Utc> = "0001-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(ago(Some(zero), now), "");
    }

    #[test]
    fn spans_print_as_go_does() {
        for (nanos, want) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (69_621_597, "69.621597ms"),
            (4_000_000, "4ms"),
            (1_000_000_000, "1s"),
            (90_500_000_000, "1m30.5s"),
            (7_200_000_000_000, "2h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), want);
        }
    }

    #[test]
    fn times_print_as_go_does() {
        let at = |text: &str| go_time(text.parse().unwrap());
        assert_eq!(at("2026-11-21T04:27:14.074354Z"), "2026-11-21 04:27:14.074354 +0000 UTC");
        assert_eq!(at("2026-11-21T04:27:10Z"), "2026-11-21 04:27:10 +0000 UTC");
    }
}
