//! Finishing the job's namespaces from inside: its own /proc, terminals, shared memory, root,
//! control groups, hidden and read-only paths (userns.md §1 J to L).

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount, mount_bind,
    mount_change, move_mount, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::config::{CgroupMount, InitConfig};
use crate::container::{IdMap, mapped_tree};
use crate::error::{SetupError, Step};
use crate::sys::{self, ATTR_RDONLY};

const MASKED: [&str; 11] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/kallsyms",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/interrupts",
    "/proc/acpi",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] =
    ["/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/sysrq-trigger"];
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Does all of it. This process is in its control groups already.
pub(super) fn finish(config: &InitConfig, root: BorrowedFd<'_>) -> Result<(), SetupError> {
    let recursive = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", recursive).step("making mounts private")?;
    // The root comes detached, not as a path: its folder on the host is closed to the job's users,
    // and inherited mounts would be locked against pivot_root.
    move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step("attaching the root")?;
    rustix::process::fchdir(root).step("entering the root")?;
    kernel_filesystems()?;
    change_root()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if !config.hostname.is_empty() {
        rustix::system::sethostname(config.hostname.as_bytes()).step("setting the host name")?;
    }
    own_cgroups(config)?;
    if config.has_user_namespace {
        // Per user namespace: no further ones below this job's.
        fs::write("/proc/sys/user/max_user_namespaces", "0").step("refusing nested namespaces")?;
    }
    hide(config)
}

/// Before the old root is left: the kernel gives a fresh proc only to who sees a whole one.
fn kernel_filesystems() -> Result<(), SetupError> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let no_exec = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("proc", "proc", "proc", strict, None).step("mounting /proc")?;
    let terminals = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount("devpts", "dev/pts", "devpts", no_exec, Some(terminals)).step("mounting /dev/pts")?;
    mount("shm", "dev/shm", "tmpfs", strict, Some(c"mode=1777,size=65536k"))
        .step("mounting /dev/shm")?;
    mount("mqueue", "dev/mqueue", "mqueue", strict, None).step("mounting /dev/mqueue")
}

fn change_root() -> Result<(), SetupError> {
    rustix::process::pivot_root(".", ".").step("changing the root")?;
    unmount(".", UnmountFlags::DETACH).step("leaving the old root")?;
    rustix::process::chdir("/").step("entering the new root")
}

/// A cgroup namespace, so that the job sees its own groups as the root, and views of them.
fn own_cgroups(config: &InitConfig) -> Result<(), SetupError> {
    // SAFETY: only the cgroup view changes, no descriptor table.
    unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }.step("hiding other control groups")?;
    if config.cgroups.iter().any(|view| !view.name.is_empty()) {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("cgroup", CGROUP_ROOT, "tmpfs", flags, Some(c"mode=755,size=64k"))
            .step("mounting the control groups")?;
    }
    for view in &config.cgroups {
        mount_cgroup(view, config.writeable_cgroups)
            .step_with(|| format!("mounting control group {}", view.name))?;
    }
    if config.cgroups.iter().any(|view| !view.name.is_empty()) {
        make_read_only(CGROUP_ROOT).step("protecting the control groups")?;
    }
    Ok(())
}

fn mount_cgroup(view: &CgroupMount, writeable: bool) -> io::Result<()> {
    let place = Path::new(CGROUP_ROOT).join(&view.name);
    if !view.name.is_empty() {
        fs::create_dir(&place)?;
    }
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if !writeable {
        flags |= MountFlags::RDONLY;
    }
    if view.controllers.is_empty() {
        mount("cgroup", &place, "cgroup2", flags, None)?;
    } else {
        let controllers = std::ffi::CString::new(view.controllers.as_str())?;
        mount("cgroup", &place, "cgroup", flags, Some(controllers.as_c_str()))?;
    }
    Ok(())
}

fn hide(config: &InitConfig) -> Result<(), SetupError> {
    let read_only = READ_ONLY.into_iter().chain(config.readonly_paths.iter().map(String::as_str));
    for path in read_only {
        unless_missing(bind_read_only(Path::new(path)))
            .step_with(|| format!("making {path} read-only"))?;
    }
    let masked = MASKED.into_iter().chain(config.masked_paths.iter().map(String::as_str));
    for path in masked {
        unless_missing(mask(Path::new(path))).step_with(|| format!("hiding {path}"))?;
    }
    Ok(())
}

/// Files show nothing, directories are empty.
fn mask(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() {
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("masked", path, "tmpfs", flags, Some(c"size=4k"))?;
    } else {
        mount_bind("/dev/null", path)?;
    }
    Ok(())
}

fn bind_read_only(path: &Path) -> io::Result<()> {
    fs::symlink_metadata(path)?;
    let tree = mapped_tree(path, IdMap::HOST, ATTR_RDONLY, false).map_err(SetupError::into_io)?;
    move_mount(tree.as_fd(), "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// Changes the mount at `path` itself, keeping its other flags.
fn make_read_only(path: &str) -> io::Result<()> {
    let mount = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    sys::set_mount_attributes(mount.as_fd(), ATTR_RDONLY, None, false)
}

fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
