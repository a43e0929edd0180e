//! Limits on cgroup v1: one directory per hierarchy.

use std::fs;
use std::io;
use std::path::Path;

use super::device_filter::DeviceRule;
use super::files::{make_dir, write, write_if_there};
use super::hierarchy::Hierarchy;
use crate::protocol::CgroupSpec;

/// Makes `path`, and its ancestors where they are missing.
pub(super) fn make(hierarchy: &Hierarchy, path: &Path) -> io::Result<()> {
    let mut dir = hierarchy.mount.join(path);
    // Nearly always the partition is there and one call is enough.
    if let Err(error) = make_one(hierarchy, &dir) {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        dir.clone_from(&hierarchy.mount);
        for part in path {
            dir.push(part);
            make_one(hierarchy, &dir)?;
        }
    }
    Ok(())
}

/// A cpuset must be filled from its parent before it takes anybody.
fn make_one(hierarchy: &Hierarchy, dir: &Path) -> io::Result<()> {
    make_dir(dir)?;
    if let Some(parent) = dir.parent().filter(|_| hierarchy.has("cpuset")) {
        inherit(parent, dir, "cpuset.cpus")?;
        inherit(parent, dir, "cpuset.mems")?;
    }
    Ok(())
}

/// Sets what `spec` says in one hierarchy.
pub(super) fn limit(
    hierarchy: &Hierarchy,
    dir: &Path,
    spec: &CgroupSpec,
    devices: &[DeviceRule],
) -> io::Result<()> {
    if hierarchy.has("memory") {
        write(&dir.join("memory.limit_in_bytes"), &spec.memory.0.to_string())?;
        let with_swap = spec.memory.0.saturating_add(spec.swap.0).to_string();
        write_if_there(&dir.join("memory.memsw.limit_in_bytes"), &with_swap)?;
    }
    if hierarchy.has("cpu") {
        write(&dir.join("cpu.shares"), &spec.cpu_shares.max(2).to_string())?;
        if let Some(quota) = spec.cpu_quota {
            write(&dir.join("cpu.cfs_period_us"), &quota.period_us.to_string())?;
            write(&dir.join("cpu.cfs_quota_us"), &quota.quota_us.to_string())?;
        }
    }
    if hierarchy.has("pids") {
        write(&dir.join("pids.max"), &spec.pids.to_string())?;
    }
    if hierarchy.has("devices") {
        write(&dir.join("devices.deny"), "a")?;
        for rule in devices {
            write(&dir.join("devices.allow"), &rule.to_string())?;
        }
    }
    Ok(())
}

fn inherit(parent: &Path, dir: &Path, file: &str) -> io::Result<()> {
    let target = dir.join(file);
    if !fs::read_to_string(&target)?.trim().is_empty() {
        return Ok(());
    }
    write(&target, fs::read_to_string(parent.join(file))?.trim())
}
