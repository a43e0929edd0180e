//! Programs that look at the walls from inside: what a job must not be able to do.

use std::ffi::CString;
use std::process::ExitCode;

/// Prints the lines of /proc/self/status and the id map that say how confined this process is.
pub(crate) fn status() -> ExitCode {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let wanted = ["Uid:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"];
    for line in text.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))) {
        println!("{line}");
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    println!("uid_map {}", map.split_whitespace().collect::<Vec<_>>().join(" "));
    ExitCode::SUCCESS
}

/// Tries each forbidden thing and prints `NAME refused` or `NAME ALLOWED`.
pub(crate) fn probe() -> ExitCode {
    for (name, allowed) in attempts() {
        println!("{name} {}", if allowed { "ALLOWED" } else { "refused" });
    }
    ExitCode::SUCCESS
}

fn attempts() -> Vec<(&'static str, bool)> {
    let path = |text: &str| CString::new(text).unwrap_or_default();
    let (node, tmp, tmpfs) = (path("/tmp/node"), path("/tmp"), path("tmpfs"));
    let null = std::ptr::null::<libc::c_void>();
    // SAFETY: every call gets valid or null pointers; a call that is allowed changes only this job.
    unsafe {
        vec![
            ("mount", call(libc::mount(tmpfs.as_ptr(), tmp.as_ptr(), tmpfs.as_ptr(), 0, null))),
            ("unshare-user", call(libc::unshare(libc::CLONE_NEWUSER))),
            ("unshare-mount", call(libc::unshare(libc::CLONE_NEWNS))),
            ("mknod", call(libc::mknod(node.as_ptr(), libc::S_IFBLK | 0o600, libc::makedev(8, 0)))),
            ("raw-socket", call(libc::socket(libc::AF_INET, libc::SOCK_RAW, 1))),
            ("packet-socket", call(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0))),
            ("keyctl", call(libc::syscall(libc::SYS_keyctl, 0, -3, 0))),
            ("bpf", call(libc::syscall(libc::SYS_bpf, 0, 0, 0))),
            ("ptrace", call(libc::syscall(libc::SYS_ptrace, libc::PTRACE_SEIZE, 1, 0, 0))),
            ("hostname", call(libc::sethostname(c"x".as_ptr(), 1))),
            ("write-proc-sys", std::fs::write("/proc/sys/kernel/core_pattern", "x").is_ok()),
            ("write-cgroup", std::fs::create_dir("/sys/fs/cgroup/memory/x").is_ok()),
            ("kernel-log", std::fs::read("/dev/kmsg").is_ok()),
        ]
    }
}

/// Whether a system call was let through: any answer but a refusal, an error about its nonsensical
/// arguments included.
fn call(result: impl Into<i64>) -> bool {
    let error = std::io::Error::last_os_error().raw_os_error();
    let refusals = [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EAFNOSUPPORT];
    result.into() >= 0 || !error.is_some_and(|error| refusals.contains(&error))
}
