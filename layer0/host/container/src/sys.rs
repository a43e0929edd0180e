//! The system calls that neither `std` nor `rustix` offer, each behind a safe function. Not a
//! general binding: only what launching a job needs, for a single-threaded process.

use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// What a [`clone3`] returned to.
pub(crate) enum Cloned {
    /// The parent, with the child's pid and a descriptor for it.
    Parent(u32, OwnedFd),
    /// The child.
    Child,
}

/// Makes the child a member of the v2 group behind the field `cgroup`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a child in new namespaces, born in the v2 group behind `group`; without shared memory, so both
/// sides go on independently.
pub(crate) fn clone3(flags: u64, group: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: i32 = -1;
    // SAFETY: all-zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = group {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: `args` is valid for its size; without CLONE_VM this behaves as fork, and the process
    // is single-threaded, so the child may go on running ordinary code.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut args, mem::size_of::<libc::clone_args>())
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel stored a fresh descriptor, which nobody else owns.
        pid => Ok(Cloned::Parent(pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Plain fork of a single-threaded process; 0 in the child.
pub(crate) fn fork() -> io::Result<i32> {
    // SAFETY: the process is single-threaded.
    check(unsafe { libc::fork() })
}

/// Ends the process without running anything else.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Attributes of [`set_mount_attributes`].
pub(crate) const ATTR_RDONLY: u64 = 0x1;
pub(crate) const ATTR_NOSUID: u64 = 0x2;
pub(crate) const ATTR_NODEV: u64 = 0x4;
const ATTR_IDMAP: u64 = 0x0010_0000;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets `attributes` on the mount `mount` stands for, and maps its ids through `id_map`.
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    attributes: u64,
    id_map: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> io::Result<()> {
    let attr = MountAttr {
        set: attributes | if id_map.is_some() { ATTR_IDMAP } else { 0 },
        clear: 0,
        propagation: 0,
        userns_fd: id_map.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a terminated empty string, `attr` is valid for its size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            mem::size_of::<MountAttr>(),
        )
    };
    check(done as i32).map(drop)
}

/// Replaces the process by the program behind `program`; returns only on failure.
pub(crate) fn exec_descriptor(
    program: BorrowedFd<'_>,
    args: &[CString],
    env: &[CString],
) -> io::Error {
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays are null-terminated and point to terminated strings that live long enough.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Replaces the process by the program at `path`; returns only on failure.
pub(crate) fn exec_path(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: as in `exec_descriptor`.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// Blocks every signal and returns a descriptor that reads them.
pub(crate) fn signals_as_descriptor() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigfillset before use; a fresh descriptor is nobody else's.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut set);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()))?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The next signal of a descriptor from [`signals_as_descriptor`], with the pid of its sender.
pub(crate) fn next_signal(fd: BorrowedFd<'_>) -> Option<i32> {
    // SAFETY: all-zero is a valid signalfd_siginfo.
    let mut info: libc::signalfd_siginfo = unsafe { mem::zeroed() };
    let size = mem::size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer is valid for `size` bytes.
    let count = unsafe { libc::read(fd.as_raw_fd(), (&raw mut info).cast(), size) };
    (count == size as isize).then_some(info.ssi_signo as i32)
}

/// Puts every signal back to its default action and unblocks all of them, as a fresh program
/// expects.
pub(crate) fn reset_signals() {
    // SAFETY: plain calls; numbers that cannot be set are refused without harm.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Sends a signal; `pid` may be -1 for everybody in the pid namespace.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// A reaped child.
pub(crate) struct Reaped {
    pub(crate) pid: i32,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// Reaps one ended child, if there is one.
pub(crate) fn reap() -> Option<Reaped> {
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    (pid > 0).then(|| Reaped {
        pid,
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
    })
}

/// Waits for the end of the process behind a pidfd, without reaping it.
pub(crate) fn wait_until_ended(pidfd: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    while poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
}

/// Waits for the end of one child.
pub(crate) fn wait_for(pid: i32) {
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// Kill this process when its parent ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Sets the effective user id of this thread only.
pub(crate) fn set_effective_uid(uid: u32) -> io::Result<()> {
    // SAFETY: no memory is involved; -1 leaves the others as they are.
    let done = unsafe { libc::syscall(libc::SYS_setresuid, -1, uid as i32, -1) };
    check(done as i32).map(drop)
}

/// Makes all permitted capabilities of this thread effective, which a change of the effective user
/// id away from 0 has undone.
pub(crate) fn use_all_capabilities() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = sets.permitted;
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Becomes `uid`:`gid` without supplementary groups.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: setgroups with zero entries reads nothing; the others involve no memory.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()) as i32)?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid) as i32)?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid) as i32)?;
    }
    Ok(())
}

/// Makes `terminal` the controlling terminal of this session.
pub(crate) fn take_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes a plain integer.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Puts `fd` on the number `target`, to be inherited by the next program.
pub(crate) fn put_on(fd: BorrowedFd<'_>, target: i32) -> io::Result<()> {
    if fd.as_raw_fd() == target {
        return keep_across_exec(fd);
    }
    // SAFETY: replacing a standard descriptor is what the caller asks for.
    check(unsafe { libc::dup2(fd.as_raw_fd(), target) }).map(drop)
}

/// What is on standard output, which gives way to nothing.
pub(crate) fn take_standard_output() -> io::Result<OwnedFd> {
    let taken = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    put_on(null.as_fd(), 1)?;
    Ok(taken)
}

/// Lets the next program inherit `fd`.
pub(crate) fn keep_across_exec(fd: impl AsFd) -> io::Result<()> {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    Ok(())
}

/// Closes every descriptor from 3 on.
pub(crate) fn close_rest() -> io::Result<()> {
    // SAFETY: called before this process has opened anything of its own.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    check(done as i32).map(drop)
}

/// Marks every descriptor from 3 on to be closed at exec.
pub(crate) fn close_rest_at_exec() -> io::Result<()> {
    // SAFETY: no memory is involved.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(done as i32).map(drop)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
