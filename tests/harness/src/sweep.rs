//! Removes what ended or killed runs left. Only things that carry our test prefix are touched.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use crate::command;

/// What names of test cgroups begin with; the id of the run follows.
pub const CGROUP_PREFIX: &str = "flynn-test-";

/// Where runs keep their state: on a disk, because layers and databases live there.
pub fn state_root() -> PathBuf {
    PathBuf::from("/var/tmp/flynn-test")
}

/// Sweeps the run with this state directory and cgroup prefix.
pub fn run_of(state: &Path, cgroup_prefix: &str) -> anyhow::Result<()> {
    // The run 123 is another one than the run 12.
    let is_ours = |name: &str| {
        let rest = name.strip_prefix(cgroup_prefix);
        rest.is_some_and(|rest| !rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    remove_cgroups(is_ours)?;
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
        let alive =
            name.parse::<u32>().is_ok_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
        if !alive {
            run_of(&entry.path(), &format!("{CGROUP_PREFIX}{name}"))?;
        }
    }
    Ok(())
}

/// Sweeps all runs, also those that seem alive.
pub fn everything() -> anyhow::Result<()> {
    remove_cgroups(|name| name.starts_with(CGROUP_PREFIX))?;
    detach_loops_below(&state_root())?;
    drop(std::fs::remove_dir_all(state_root()));
    Ok(())
}

/// Names what is still here of runs whose process is gone; success when there is nothing.
#[expect(clippy::print_stderr, reason = "the answer of a check")]
pub fn leftovers() -> anyhow::Result<ExitCode> {
    let mut found = Vec::new();
    for mount in cgroup_mounts()? {
        let entries = std::fs::read_dir(&mount).into_iter().flatten().flatten();
        let ours =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(CGROUP_PREFIX));
        found.extend(ours.map(|entry| format!("cgroup {}", entry.path().display())));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let state = state_root().to_string_lossy().into_owned();
    found.extend(
        mounts.lines().filter(|line| line.contains(&state)).map(|line| format!("mount {line}")),
    );
    found.extend(
        loops_below(&state_root())?.into_iter().map(|node| format!("loop {}", node.display())),
    );
    let runs = std::fs::read_dir(state_root()).into_iter().flatten().flatten();
    found.extend(runs.map(|entry| format!("state {}", entry.path().display())));
    for line in &found {
        eprintln!("left behind: {line}");
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
    let mut found = Vec::new();
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    for device in devices {
        let backing = device.path().join("loop/backing_file");
        let Ok(file) = std::fs::read_to_string(backing) else { continue };
        if Path::new(file.trim()).starts_with(dir) {
            found.push(Path::new("/dev").join(device.file_name()));
        }
    }
    Ok(found)
}
