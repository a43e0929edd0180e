//! The job's `/dev`: a small tmpfs with nodes made by real root and given to the job's root.

use std::os::unix::fs::{lchown, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, mount};

use super::idmap::IdMap;
use crate::error::{SetupError, Step};
use crate::protocol::{Device, DeviceKind};

/// Nodes of every job: name, major, minor.
pub(crate) const STANDARD_DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
const FOLDERS: [&str; 3] = ["pts", "shm", "mqueue"];

/// Mounts and fills `dev`, the root's `/dev`.
pub(crate) fn populate_dev(dev: &Path, extra: &[Device], ids: IdMap<'_>) -> Result<(), SetupError> {
    mount("tmpfs", dev, "tmpfs", MountFlags::NOSUID, Some(c"mode=755,size=64k"))
        .step("mounting /dev")?;
    let own = |path: &Path| lchown(path, Some(ids.host_id(0)), Some(ids.host_id(0)));
    own(dev).step("owning /dev")?;
    for (name, major, minor) in STANDARD_DEVICES {
        let path = dev.join(name);
        node(&path, FileType::CharacterDevice, (major, minor), 0o666)?;
        own(&path).step("owning a device")?;
    }
    for (name, target) in LINKS {
        let path = dev.join(name);
        symlink(target, &path)
            .and_then(|()| own(&path))
            .step_with(|| format!("linking /dev/{name}"))?;
    }
    for name in FOLDERS {
        let path = dev.join(name);
        std::fs::create_dir(&path)
            .and_then(|()| own(&path))
            .step_with(|| format!("making /dev/{name}"))?;
    }
    let console = dev.join("console");
    std::fs::write(&console, "").and_then(|()| own(&console)).step("making /dev/console")?;
    extra.iter().try_for_each(|device| extra_node(dev, device, ids))
}

/// A device of the job's own list; entries without path or with wildcards only widen the rules.
fn extra_node(dev: &Path, device: &Device, ids: IdMap<'_>) -> Result<(), SetupError> {
    let (Some(name), Some(major), Some(minor)) =
        (device.path.strip_prefix("/dev/"), device.major, device.minor)
    else {
        return Ok(());
    };
    let refused = name.split('/').any(|part| part.is_empty() || part == ".." || part == ".");
    if refused {
        return Err(SetupError::because(format!("making {}", device.path), "not a plain path"));
    }
    let path = dev.join(name);
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).step_with(|| format!("making {}", device.path))?;
    }
    let kind = match device.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    };
    let mode = if device.file_mode & 0o777 == 0 { 0o666 } else { device.file_mode & 0o777 };
    node(&path, kind, (major, minor), mode)?;
    lchown(&path, Some(ids.host_id(device.uid)), Some(ids.host_id(device.gid)))
        .step_with(|| format!("owning {}", device.path))
}

fn node(path: &Path, kind: FileType, number: (u32, u32), mode: u32) -> Result<(), SetupError> {
    let step = || format!("making device {}", path.display());
    mknodat(CWD, path, kind, Mode::from_raw_mode(mode), makedev(number.0, number.1))
        .step_with(step)?;
    // The mode above was cut by the umask.
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).step_with(step)
}
