//! What this kernel can do for jobs, tried on the real directories before the daemon has a thread.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use host_api::Isolation;
use host_container::UsernsSupport;
use host_image::Form;
use rustix::mount::UnmountFlags;

/// How layers are kept here, and what the status says about isolation. Call it while the process has one
/// thread.
pub fn probe(data_dir: &Path) -> io::Result<(Form, Isolation)> {
    let (layers, volumes, scratch) =
        (data_dir.join("layers"), data_dir.join("volumes"), data_dir.join("scratch"));
    let sample = layers.join("probe");
    for dir in [&layers, &volumes, &scratch, &sample] {
        fs::create_dir_all(dir)?;
    }
    let mounted = mount_sample(&layers, &sample);
    let found =
        host_container::probe(if mounted.is_ok() { &sample } else { &layers }, &volumes, &scratch);
    if mounted.is_ok() {
        rustix::mount::unmount(&sample, UnmountFlags::DETACH)?;
    }
    let form = match (found.userns, &mounted) {
        (UsernsSupport::Full, Ok(())) => Form::Squashfs,
        (UsernsSupport::Full | UsernsSupport::DirsOnly, _) => Form::Directory,
        (UsernsSupport::Off, _) => Form::Squashfs,
    };
    let userns = match found.userns {
        UsernsSupport::Full => "full",
        UsernsSupport::DirsOnly => "dirs-only",
        UsernsSupport::Off => "off",
    };
    let layers = match form {
        Form::Squashfs => "squashfs",
        Form::Directory => "directory",
    };
    Ok((
        form,
        Isolation {
            userns: userns.to_owned(),
            layers: layers.to_owned(),
            scratch: "image".to_owned(),
            reason: found.reason.unwrap_or_default(),
        },
    ))
}

/// An empty squashfs over a loop device, as layers are mounted.
fn mount_sample(layers: &Path, sample: &Path) -> io::Result<()> {
    let file = layers.join("probe.squashfs");
    if !file.exists() {
        let mut make = Command::new("mksquashfs");
        make.arg(sample).arg(&file).args(["-no-progress", "-quiet", "-noappend"]);
        run(make)?;
    }
    let mut mount = Command::new("mount");
    mount.args(["-t", "squashfs", "-o", "loop,ro,nosuid,nodev"]).arg(&file).arg(sample);
    run(mount)
}

fn run(mut command: Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
