//! The form in which leases are metadata here.

use std::time::Duration;

use kit_clock::Wall;
use netplan::{Block, Lease, Leases};

use super::lease;

/// Leases as a text.
pub(super) fn text(leases: &Leases) -> String {
    let line = |(subnet, lease): (&Block, &Lease)| {
        format!("{subnet} {} {}", lease.public_ip, lease.seen.map_or(0, Wall::as_nanos))
    };
    let lines: Vec<String> = leases.iter().map(line).collect();
    lines.join("\n")
}

/// The leases of a text.
pub(super) fn parse(text: &str) -> Leases {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (subnet, public_ip) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let seen = Wall::from_epoch(Duration::from_nanos(words.next()?.parse().ok()?));
        Some((subnet, Lease { public_ip, seen: Some(seen), ..lease(0) }))
    };
    text.lines().filter_map(line).collect()
}
