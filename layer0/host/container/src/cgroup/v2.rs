//! Limits on cgroup v2: one directory, controllers handed down from the root. On a hybrid machine
//! the tree has no controllers and the same code only makes directories.

use std::fs;
use std::io;
use std::path::Path;

use super::files::{make_dir, write, write_if_there};
use crate::protocol::CgroupSpec;

const WANTED: [&str; 3] = ["cpu", "memory", "pids"];

/// Makes `path` and its ancestors below `root`, with the controllers a job needs.
pub(super) fn make(root: &Path, path: &Path) -> io::Result<()> {
    let mut dir = root.to_owned();
    for part in path {
        hand_down(&dir)?;
        dir.push(part);
        make_dir(&dir)?;
    }
    Ok(())
}

/// Sets what `spec` says.
pub(super) fn limit(dir: &Path, spec: &CgroupSpec) -> io::Result<()> {
    let available = controllers(dir);
    if available.iter().any(|name| name == "memory") {
        write(&dir.join("memory.max"), &spec.memory.0.to_string())?;
        write_if_there(&dir.join("memory.swap.max"), &spec.swap.0.to_string())?;
    }
    if available.iter().any(|name| name == "pids") {
        write(&dir.join("pids.max"), &spec.pids.to_string())?;
    }
    if let Some(quota) = spec.cpu_quota {
        let text = format!("{} {}", quota.quota_us, quota.period_us);
        write_if_there(&dir.join("cpu.max"), &text)?;
    }
    set_weight(dir, spec.cpu_shares)
}

/// Sets the CPU weight that `shares` of v1 stand for, where there is a cpu controller.
pub(super) fn set_weight(dir: &Path, shares: u64) -> io::Result<()> {
    write_if_there(&dir.join("cpu.weight"), &weight(shares).to_string())
}

/// Shares 2..=262144 to weight 1..=10000.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// What the group at `dir` can limit.
pub(super) fn controllers(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Lets children of `dir` have the wanted controllers, as far as `dir` has them itself.
fn hand_down(dir: &Path) -> io::Result<()> {
    let given = fs::read_to_string(dir.join("cgroup.subtree_control"))?;
    let missing: Vec<_> = controllers(dir)
        .into_iter()
        .filter(|name| WANTED.contains(&name.as_str()))
        .filter(|name| !given.split_whitespace().any(|have| have == name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        write(&dir.join("cgroup.subtree_control"), &missing.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_over_the_whole_range() {
        for (shares, want) in [(0, 1), (2, 1), (1024, 39), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight(shares), want, "{shares}");
        }
    }
}
