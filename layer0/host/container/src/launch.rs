//! Starting a supervisor from the daemon: a plain spawn, nothing that is unsafe beside other threads.
//!
//! The description travels as a sealed memory file on standard input: no secret in argv or the
//! environment, no descriptor shuffling between fork and exec, so that `std` may use posix_spawn,
//! whose cost does not grow with the daemon's memory.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::protocol::JobSpec;

/// The argument that makes `flynn-init` a supervisor.
pub const SUPERVISE: &str = "supervise";

/// Executes the supervisor of one job and returns it as a child process.
///
/// The supervisor makes its own session and outlives the daemon. The caller reaps the child (a
/// daemon that restarted has no such child; it connects to the job's socket instead). The socket
/// exists when the child has started to set the job up: [`connect`](crate::client::connect), again
/// after a few milliseconds while it is not there, until the child has ended.
pub fn launch(init_binary: &Path, spec: &JobSpec) -> io::Result<Child> {
    let sealed = sealed_spec(spec)?;
    let mut command = Command::new(init_binary);
    command.arg0("flynn-init").arg(SUPERVISE).env_clear();
    command.stdin(sealed).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn()
}

fn sealed_spec(spec: &JobSpec) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("job", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(&serde_json::to_vec(spec)?)?;
    file.seek(SeekFrom::Start(0))?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file.into())
}
