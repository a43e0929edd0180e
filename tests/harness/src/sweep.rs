//! Removes what ended or killed runs left. Only things that carry our test prefix are touched.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use crate::{command, sandbox};

/// What names of test cgroups begin with; the id of the run follows.
pub const CGROUP_PREFIX: &str = "flynn-test-";

/// Where runs keep their state: on a disk, because layers and databases live there.
pub fn state_root() -> PathBuf {
    PathBuf::from("/var/tmp/flynn-test")
}

/// Sweeps the run with this state directory and cgroup prefix.
pub fn run_of(state: &Path, cgroup_prefix: &str) -> anyhow::Result<()> {
    remove_cgroups(|name| is_of_run(name, cgroup_prefix))?;
    detach_loops_below(state)?;
    match std::fs::remove_dir_all(state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", state.display()))
        }
        _ => Ok(()),
    }
}

/// Sweeps runs whose process is gone.
pub fn abandoned() -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(state_root()) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_alive(&name) {
            run_of(&entry.path(), &format!("{CGROUP_PREFIX}{name}"))?;
        }
    }
    Ok(())
}

/// Whether a cgroup's name is the run's prefix, alone or before a host's name: the run 12 is not the
/// run 123.
fn is_of_run(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Whether this is the process id of a sandbox's caller, and not of another program that got it later.
fn is_alive(run: &str) -> bool {
    let of_process = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
    let named = run
        .parse()
        .is_ok_and(|pid| of_process(pid).is_ok_and(|program| program.starts_with("flynn-dev")));
    // Whoever looks into it from inside of it has processes of other numbers.
    named
        || std::env::var_os(sandbox::STATE_ENV).is_some_and(|state| state == state_root().join(run))
}

/// Sweeps all runs, also those that seem alive.
pub fn everything() -> anyhow::Result<()> {
    remove_cgroups(|name| name.starts_with(CGROUP_PREFIX))?;
    detach_loops_below(&state_root())?;
    drop(std::fs::remove_dir_all(state_root()));
    Ok(())
}

/// Names what is still here of runs whose process is gone; success when there is nothing. What runs that
/// are under way have, and a platform of this machine, is nobody's leftover.
#[expect(clippy::print_stderr, reason = "the answer of a check")]
pub fn leftovers() -> anyhow::Result<ExitCode> {
    let mut found = Vec::new();
    for mount in cgroup_mounts()? {
        for entry in std::fs::read_dir(&mount).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let run = name.strip_prefix(CGROUP_PREFIX).and_then(|rest| rest.split('-').next());
            if run.is_some_and(|run| !is_alive(run)) {
                found.push(format!("cgroup {}", entry.path().display()));
            }
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    found.extend(left(points).map(|path| format!("mount {}", path.display())));
    let loops = loops()?.into_iter().filter(|(_, file)| left([file.clone()]).next().is_some());
    found.extend(loops.map(|(node, _)| format!("loop {}", node.display())));
    let runs = std::fs::read_dir(state_root()).into_iter().flatten().flatten();
    let runs = left(runs.map(|entry| entry.path()));
    found.extend(runs.map(|path| format!("state {}", path.display())));
    for line in &found {
        eprintln!("left behind: {line}");
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Of these paths those that belong to runs whose process is gone.
fn left(paths: impl IntoIterator<Item = PathBuf>) -> impl Iterator<Item = PathBuf> {
    let is_left = |path: &PathBuf| {
        let below = path.strip_prefix(state_root()).ok();
        let run = below.and_then(|below| below.iter().next());
        run.is_some_and(|run| !is_alive(&run.to_string_lossy()))
    };
    paths.into_iter().filter(is_left)
}

/// Kills and removes the top-level cgroups whose name `ours` accepts, in every mounted hierarchy.
fn remove_cgroups(ours: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    for mount in cgroup_mounts()? {
        let Ok(entries) = std::fs::read_dir(&mount) else { continue };
        for entry in entries.flatten() {
            if ours(&entry.file_name().to_string_lossy()) {
                remove_cgroup(&entry.path());
            }
        }
    }
    Ok(())
}

/// How many cgroups there are at and below the top-level ones of this name, in all hierarchies.
pub fn cgroups_below(name: &str) -> usize {
    let mounts = cgroup_mounts().unwrap_or_default();
    mounts.iter().map(|mount| count_directories(&mount.join(name))).sum()
}

fn count_directories(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let children =
        entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    1 + children.map(|child| count_directories(&child.path())).sum::<usize>()
}

fn cgroup_mounts() -> anyhow::Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let of_cgroups = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup" || kind == "cgroup2").then(|| PathBuf::from(path))
    });
    Ok(of_cgroups.collect())
}

/// Removes one cgroup with all below it; members are killed first. What stays is left for the next
/// sweep: a sweep must not fail a test run.
fn remove_cgroup(dir: &Path) {
    let children = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for child in children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroup(&child.path());
    }
    for _ in 0..100 {
        let members = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in
            members.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1)
        {
            // SAFETY: kill takes a process id and a signal; the process is in a cgroup of our prefix.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        if std::fs::remove_dir(dir).is_ok() || !dir.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn detach_loops_below(dir: &Path) -> anyhow::Result<()> {
    for node in loops_below(dir)? {
        command::run(&["losetup", "-d", &node.to_string_lossy()])?;
    }
    Ok(())
}

/// The loop devices whose file lies below `dir`.
fn loops_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let below = loops()?.into_iter().filter(|(_, file)| file.starts_with(dir));
    Ok(below.map(|(node, _)| node).collect())
}

/// The loop devices in use, each with its file.
fn loops() -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    for device in devices {
        let backing = device.path().join("loop/backing_file");
        let Ok(file) = std::fs::read_to_string(backing) else { continue };
        found.push((Path::new("/dev").join(device.file_name()), PathBuf::from(file.trim())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_own_cgroups_only() {
        for (name, is_of) in [
            ("flynn-test-12", true),
            ("flynn-test-12-host1", true),
            ("flynn-test-123", false),
            ("flynn-test-123-host1", false),
            ("flynn", false),
        ] {
            assert_eq!(is_of_run(name, "flynn-test-12"), is_of, "{name}");
        }
    }

    #[test]
    fn what_runs_under_way_have_is_not_left_behind() {
        // No process has such a number.
        let gone = state_root().join("4294967295").join("hosts");
        assert_eq!(left([gone.clone()]).collect::<Vec<_>>(), [gone]);
        let elsewhere = PathBuf::from("/var/lib/flynn/layers");
        assert_eq!(left([elsewhere, state_root()]).count(), 0);
    }
}
