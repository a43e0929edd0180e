//! Volumes, files and configured mounts: host trees that appear at a place inside the root.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{MountFlags, MoveMountFlags, move_mount};

use super::idmap::{IdMap, mapped_tree};
use super::rootfs::{InRoot, Kind};
use crate::error::{SetupError, Step};
use crate::protocol::{BindMount, ConfigMount};
use crate::sys::{ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY};

/// File systems without a backing device, which a job of a user namespace may have made for it.
const HARMLESS: [&str; 1] = ["tmpfs"];

/// Attaches a volume or a file.
pub(crate) fn bind_mount(
    root: &InRoot<'_>,
    bind: &BindMount,
    ids: IdMap<'_>,
) -> Result<(), SetupError> {
    let attributes = attributes(bind.writeable);
    let tree = mapped_tree(&bind.source, ids, attributes, false)?;
    let place = root.place(&bind.target, kind_of(&bind.source)?)?;
    attach(tree.as_fd(), place.as_fd()).step_with(|| format!("mounting {}", bind.target))
}

/// Attaches a mount of the job's configuration (spec/host.md §3, Mount).
pub(crate) fn config_mount(
    root: &InRoot<'_>,
    mount: &ConfigMount,
    ids: IdMap<'_>,
) -> Result<(), SetupError> {
    if mount.device.is_empty() {
        return bind_tree(root, mount, ids);
    }
    let step = || format!("mounting {}", mount.location);
    if ids.is_mapped() && !HARMLESS.contains(&mount.device.as_str()) {
        return Err(SetupError::because(
            step(),
            "only tmpfs may be mounted for a job with a user namespace",
        ));
    }
    let place = root.place(&mount.location, Kind::Dir)?;
    mount_filesystem(mount, &place, ids).step_with(step)
}

fn bind_tree(root: &InRoot<'_>, mount: &ConfigMount, ids: IdMap<'_>) -> Result<(), SetupError> {
    if mount.target.is_empty() {
        return Err(SetupError::because("host", "invalid empty mount target"));
    }
    let source = Path::new(&mount.target);
    let tree = mapped_tree(source, ids, attributes(mount.writeable), true)?;
    let place = root.place(&mount.location, kind_of(source)?)?;
    attach(tree.as_fd(), place.as_fd()).step_with(|| format!("mounting {}", mount.location))
}

fn mount_filesystem(mount: &ConfigMount, place: &OwnedFd, ids: IdMap<'_>) -> std::io::Result<()> {
    let mut flags = MountFlags::from_bits_truncate(u32::try_from(mount.flags).unwrap_or(0))
        | MountFlags::NOSUID
        | MountFlags::NODEV;
    if !mount.writeable {
        flags |= MountFlags::RDONLY;
    }
    let mut data = mount.data.clone();
    if ids.is_mapped() {
        let owner = ids.host_id(0);
        let comma = if data.is_empty() { "" } else { "," };
        data = format!("{data}{comma}uid={owner},gid={owner}");
    }
    let data = CString::new(data)?;
    let target = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::mount::mount(&*mount.target, &*target, &*mount.device, flags, Some(data.as_c_str()))?;
    Ok(())
}

/// Attaches a detached mount at an open place, without naming a path that could be redirected.
pub(super) fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", both)
}

fn attributes(writeable: bool) -> u64 {
    ATTR_NOSUID | ATTR_NODEV | if writeable { 0 } else { ATTR_RDONLY }
}

fn kind_of(source: &Path) -> Result<Kind, SetupError> {
    let meta =
        std::fs::metadata(source).step_with(|| format!("looking at {}", source.display()))?;
    Ok(if meta.is_dir() { Kind::Dir } else { Kind::File })
}
