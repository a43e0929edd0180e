//! How a job's first process gets into all of its groups at once, without the kernel's waiting.
//!
//! A process that is moved by another one makes the kernel wait until every processor has taken note:
//! 10 to 20 ms, the greatest part of a start. There is no such wait for a thread of v1 that moves itself
//! (`0` in `tasks`), and none for a process that is born in its group of v2.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::job::JobCgroup;

/// The open doors of a job's groups. The kernel looks at who opened them, so the child may go through
/// them whatever it has become.
#[derive(Debug)]
pub(crate) struct Entrance {
    tasks: Vec<File>,
    unified: Option<OwnedFd>,
}

impl JobCgroup {
    /// Opens the doors; the groups exist.
    pub(crate) fn entrance(&self) -> io::Result<Entrance> {
        let (v1, unified) = self.places();
        let open = |dir: &std::path::PathBuf| File::options().write(true).open(dir.join("tasks"));
        let tasks = v1.iter().map(open).collect::<io::Result<_>>()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let unified = unified.map(|dir| rustix::fs::open(dir, flags, Mode::empty())).transpose()?;
        Ok(Entrance { tasks, unified })
    }
}

impl Entrance {
    /// Where a child has to be born; none on a machine without a v2 tree.
    pub(crate) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling process, which has one thread, into the groups of v1.
    pub(crate) fn enter(&self) -> io::Result<()> {
        self.tasks.iter().try_for_each(|mut tasks| tasks.write_all(b"0"))
    }
}
