//! Starting a supervisor from the daemon: a plain spawn, nothing that is unsafe beside other threads.
//!
//! The description travels as a sealed memory file on standard input, the job's listening socket on
//! standard output: no secret in argv or the environment, no descriptor shuffling between fork and
//! exec, so that `std` may use posix_spawn, whose cost does not grow with the daemon's memory.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

use crate::protocol::{JobSpec, SOCKET_NAME};

/// The argument that makes `flynn-init` a supervisor.
pub const SUPERVISE: &str = "supervise";

/// Executes the supervisor of one job and returns it as a child process.
///
/// The supervisor makes its own session and outlives the daemon. The caller reaps the child (a
/// daemon that restarted has no such child; it connects to the job's socket instead). The socket is
/// there before the child is: [`connect`](crate::client::connect) succeeds at once, is answered as soon
/// as the child has read its description, and breaks when it ends before.
pub fn launch(init_binary: &Path, spec: &JobSpec) -> io::Result<Child> {
    let sealed = sealed_spec(spec)?;
    let listener = OwnedFd::from(listen(&spec.job_dir)?);
    let mut command = Command::new(init_binary);
    command.arg0("flynn-init").arg(SUPERVISE).env_clear();
    command.stdin(sealed).stdout(listener).stderr(Stdio::null());
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

/// The job's socket. Bound through a descriptor of its folder, because socket paths are cut at 108 bytes.
fn listen(job_dir: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(job_dir.join(SOCKET_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(job_dir, flags, Mode::empty())?;
    UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd()))
}
