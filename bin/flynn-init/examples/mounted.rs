//! Runs `flynn-init` where layers that have an image beside them (`LAYER.squashfs`, `LAYER.erofs`)
//! are mounted, as a daemon's pinned mount namespace has them. A stand-in for the init binary in tests.

use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::Command;

use host_container::protocol::JobSpec;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

fn main() -> io::Result<()> {
    // SAFETY: only the view of mounts changes, no descriptor table.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let mut input = std::fs::File::open("/proc/self/fd/0")?;
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    input.rewind()?;
    let spec: JobSpec = serde_json::from_str(&text)?;
    for layer in &spec.layers {
        for kind in ["squashfs", "erofs"] {
            let image = layer.with_extension(kind);
            if image.exists() {
                let mounted = Command::new("/usr/bin/mount")
                    .args(["-t", kind, "-o", "loop,ro,nosuid,nodev"])
                    .arg(&image)
                    .arg(layer)
                    .status()?;
                assert!(mounted.success(), "mounting {}", image.display());
            }
        }
    }
    let mut init = std::env::current_exe()?;
    init.pop();
    init.set_file_name("flynn-init");
    Err(Command::new(init).args(std::env::args_os().skip(1)).exec())
}
