//! Runs `flynn-init` as on a machine that has only cgroup v2: in a mount namespace of its own, where the
//! v2 tree alone is mounted at its usual place. A stand-in for the init binary in tests.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

fn main() -> io::Result<()> {
    // SAFETY: only the view of mounts changes, no descriptor table.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    unmount("/sys/fs/cgroup", UnmountFlags::DETACH)?;
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MountFlags::empty(), None)?;
    let mut init = std::env::current_exe()?;
    init.pop();
    init.set_file_name("flynn-init");
    Err(Command::new(init).args(std::env::args_os().skip(1)).exec())
}
