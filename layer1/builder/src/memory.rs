//! Whether the kernel ended something of this build for want of memory, and how much there was: the
//! job's own cgroup, of either version.

use std::fs;

/// Files that count kills, and those that hold the limit, version 2 first.
const COUNTERS: [&str; 2] =
    ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
const LIMITS: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// How many processes the kernel has ended so far.
pub(crate) fn kills() -> u64 {
    COUNTERS.iter().find_map(|path| count(&fs::read_to_string(path).ok()?)).unwrap_or(0)
}

/// The job's limit in bytes, if it has one.
pub(crate) fn limit() -> Option<u64> {
    let text = LIMITS.iter().find_map(|path| fs::read_to_string(path).ok())?;
    // No limit reads as `max`, or as a number larger than any machine.
    text.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

fn count(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == "oom_kill")?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_in_both_versions() {
        for (text, want) in [
            ("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n", Some(1)),
            ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", Some(3)),
            ("", None),
        ] {
            assert_eq!(count(text), want);
        }
    }
}
