//! A verified layer as a directory, for hosts that cannot id-map a squashfs mount. Unpacking happens in
//! a mount namespace of its own with four capabilities and no way to gain more, so that a hostile layer
//! that breaks the unpacker does not get the host.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::mounts::{MountError, io_error, run};

/// Unpacks `file` to `path`: beside it first, then renamed, so that a directory that is there is whole.
pub(crate) fn unpack(file: &Path, path: &Path, near: &Path) -> Result<(), MountError> {
    let made = tempfile::Builder::new().prefix("unpack-").tempdir_in(near);
    let folder = made.map_err(io_error("make a folder in", near))?;
    let target = folder.path().join("layer");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]);
    command.args(["setpriv", "--no-new-privs", "--inh-caps=-all"]);
    command.arg("--bounding-set=-all,+chown,+fowner,+mknod,+dac_override");
    command.args(["unsquashfs", "-no-progress", "-quiet", "-dest"]).arg(&target).arg(file);
    run(command, "unsquashfs", file)?;
    fs::rename(&target, path).map_err(io_error("rename to", path))?;
    Ok(())
}
