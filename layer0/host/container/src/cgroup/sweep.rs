//! Killing and removing groups, one job's or everything a crash left under a prefix.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::files::{self, write};
use super::hierarchy::Cgroups;
use super::job::children;

/// Rounds of killing what was forked while the group was being read.
const KILL_ROUNDS: usize = 50;
const RETRY: Duration = Duration::from_millis(5);

impl Cgroups {
    /// Names of the groups below `/<prefix>/<partition>` in any tree: jobs that are or were here.
    pub fn job_names(&self, prefix: &str, partition: &str) -> io::Result<BTreeSet<String>> {
        let path = files::relative(&[prefix, partition])?;
        let mut names = BTreeSet::new();
        for dir in self.dirs(&path).iter().flat_map(|dir| children(dir)) {
            names.extend(dir.file_name().and_then(|name| name.to_str()).map(str::to_owned));
        }
        Ok(names)
    }

    /// Kills every process under `prefix` and removes all of its groups, for at most `patience`.
    pub fn sweep(&self, prefix: &str, patience: Duration) -> io::Result<()> {
        let path = files::relative(&[prefix])?;
        let deadline = Instant::now() + patience;
        loop {
            kill_members(self, &path)?;
            let left: Vec<_> =
                self.dirs(&path).iter().filter_map(|dir| remove_tree(dir).err()).collect();
            match left.into_iter().next() {
                None => return Ok(()),
                Some(error) if Instant::now() >= deadline => return Err(error),
                Some(_) => std::thread::sleep(RETRY),
            }
        }
    }
}

/// Kills all members of `path` and of the groups below it.
pub(super) fn kill_members(trees: &Cgroups, path: &Path) -> io::Result<()> {
    if let Some(freezer) = trees.controller("freezer") {
        thaw(&freezer.mount.join(path));
    }
    // Killing through the v2 tree catches forks in flight; the v1 hierarchies may know of processes
    // that were moved there only, so they are read as well.
    if let Some(unified) = &trees.unified {
        let kill = unified.join(path).join("cgroup.kill");
        match write(&kill, "1") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    for dir in trees.dirs(path) {
        for _ in 0..KILL_ROUNDS {
            let members = members_below(&dir);
            if members.is_empty() {
                break;
            }
            for pid in members {
                // It may have ended meanwhile.
                let _ = crate::sys::kill(pid, libc::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Processes directly in a group.
pub(super) fn members(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
}

/// Removes a group and those below it, deepest first. A missing one is fine.
pub(super) fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in children(dir) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn members_below(dir: &Path) -> Vec<i32> {
    let mut found = members(dir);
    for child in children(dir) {
        found.extend(members_below(&child));
    }
    found
}

/// A frozen v1 group takes a SIGKILL only after it was thawed.
fn thaw(dir: &Path) {
    for child in children(dir) {
        thaw(&child);
    }
    let state = dir.join("freezer.state");
    if fs::read_to_string(&state).is_ok_and(|text| text.trim() != "THAWED") {
        let _ = write(&state, "THAWED");
    }
}
