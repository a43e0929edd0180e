//! The program's standard streams: pipes it may reopen by `/dev/stdout`, or a terminal of the job's
//! own devpts. They are made in here so that their owner is a user the job knows.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Gid, Mode, Uid};
use rustix::mount::mount_bind;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

use super::config::InitConfig;
use crate::error::{SetupError, Step};
use crate::sys;

/// The group of terminals inside a job, as devpts was told.
const TTY_GROUP: u32 = 5;

/// Both ends of all streams, until the program was started.
pub(super) struct Stdio {
    /// Ends for the supervisor, in the order of `FromInit::Ready`.
    supervisor: Vec<OwnedFd>,
    /// stdin, stdout, stderr of the program.
    program: [OwnedFd; 3],
    controlling: bool,
}

impl Stdio {
    pub(super) fn open(config: &InitConfig) -> Result<Self, SetupError> {
        if config.tty {
            terminal(config).step("making a terminal")
        } else {
            pipes(config).step("making pipes")
        }
    }

    pub(super) fn supervisor_ends(&self) -> Vec<BorrowedFd<'_>> {
        self.supervisor.iter().map(AsFd::as_fd).collect()
    }

    /// Called in the program's process, which has a session of its own already.
    pub(super) fn install(&self) -> io::Result<()> {
        if self.controlling {
            sys::take_terminal(self.program[0].as_fd())?;
        }
        for (number, fd) in self.program.iter().enumerate() {
            sys::put_on(fd.as_fd(), number as i32)?;
        }
        Ok(())
    }
}

fn pipes(config: &InitConfig) -> io::Result<Stdio> {
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let mut supervisor: Vec<OwnedFd> = vec![stdout.into(), stderr.into()];
    let stdin = if config.open_stdin {
        let (reader, writer) = io::pipe()?;
        supervisor.push(writer.into());
        OwnedFd::from(reader)
    } else {
        File::open("/dev/null")?.into()
    };
    let program = [stdin, stdout_end.into(), stderr_end.into()];
    let pipes = if config.open_stdin { &program[..] } else { &program[1..] };
    for pipe in pipes {
        own(pipe, config.uid, config.gid)?;
    }
    Ok(Stdio { supervisor, program, controlling: false })
}

fn terminal(config: &InitConfig) -> io::Result<Stdio> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    own(&slave, config.uid, TTY_GROUP)?;
    rustix::fs::fchmod(&slave, Mode::from_raw_mode(0o620))?;
    mount_bind(format!("/proc/self/fd/{}", slave.as_raw_fd()), "/dev/console")?;
    let stdin =
        if config.open_stdin { slave.try_clone()? } else { File::open("/dev/null")?.into() };
    let program = [stdin, slave.try_clone()?, slave];
    Ok(Stdio { supervisor: vec![master], program, controlling: config.open_stdin })
}

fn own(fd: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    Ok(rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}
