//! User namespaces: id maps, and a namespace that exists only to map mounts.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use crate::protocol::UserNamespace;
use crate::sys::{self, Cloned};

/// Writes the maps of a process that was just cloned into a user namespace of its own.
pub(crate) fn write_maps(pid: u32, range: UserNamespace) -> io::Result<()> {
    let line = format!("0 {} {}\n", range.base, range.size);
    for map in ["uid_map", "gid_map"] {
        File::options()
            .write(true)
            .open(format!("/proc/{pid}/{map}"))?
            .write_all(line.as_bytes())?;
    }
    Ok(())
}

/// A user namespace of `range` without any process in it; for probes and for mapping mounts.
pub(crate) fn id_map_namespace(range: UserNamespace) -> io::Result<OwnedFd> {
    let (reader, writer) = io::pipe()?;
    match sys::clone3(libc::CLONE_NEWUSER as u64, None)? {
        Cloned::Child => {
            drop(writer);
            let mut byte = [0];
            let _ = io::Read::read(&mut &reader, &mut byte);
            sys::exit_now(0)
        }
        Cloned::Parent(pid, _pidfd) => {
            let namespace =
                write_maps(pid, range).and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
            drop(writer);
            sys::wait_for(pid as i32);
            Ok(namespace?.into())
        }
    }
}
