//! The program that the tests run inside jobs: static, one verb per behaviour to look at.
#![expect(clippy::print_stdout, reason = "its output is what the tests read")]

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::exit;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["exit", code] => exit(code.parse().unwrap_or(99)),
        ["cat", path] => fs::read(path).and_then(|bytes| io::stdout().write_all(&bytes)),
        ["list", path] => list(path),
        ["owner", paths @ ..] => owners(paths),
        ["write", path, text] => fs::write(path, text),
        ["chown", path, id] => std::os::unix::fs::chown(path, id.parse().ok(), id.parse().ok()),
        ["env"] => {
            std::env::vars().try_for_each(|(key, value)| writeln!(io::stdout(), "{key}={value}"))
        }
        ["id"] => {
            writeln!(io::stdout(), "{} {}", rustix::process::getuid(), rustix::process::getgid())
        }
        ["pwd"] => {
            std::env::current_dir().and_then(|dir| writeln!(io::stdout(), "{}", dir.display()))
        }
        ["hog", mib] => hog(mib.parse().unwrap_or(0)),
        ["forks"] => forks(),
        ["pour", count] => pour(count.parse().unwrap_or(0)),
        ["copy"] => io::copy(&mut io::stdin().lock(), &mut io::stdout().lock()).map(drop),
        ["wait"] => wait(),
        ["trap"] => trap(),
        ["orphans", count] => orphans(count.parse().unwrap_or(0)),
        ["terminal"] => terminal(),
        ["refusals"] => refusals(),
        ["stamp"] => stamp(),
        ["limits"] => limits(),
        ["reopen"] => reopen(),
        ["listen", addr] => listen(addr),
        _ => exit(98),
    };
    if let Err(error) = done {
        println!("error: {error}");
        exit(1);
    }
}

fn list(path: &str) -> io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(path)?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names.iter().try_for_each(|name| writeln!(io::stdout(), "{}", name.display()))
}

fn owners(paths: &[&str]) -> io::Result<()> {
    for path in paths {
        let meta = fs::symlink_metadata(path)?;
        println!("{} {} {:o} {path}", meta.uid(), meta.gid(), meta.mode() & 0o7777);
    }
    Ok(())
}

fn hog(mib: usize) -> io::Result<()> {
    let mut all = Vec::new();
    for _ in 0..mib {
        all.push(vec![1_u8; 1 << 20]);
    }
    println!("had {} MiB", all.len());
    Ok(())
}

/// Forks children that stay until it is refused, and tells how many there were.
fn forks() -> io::Result<()> {
    let mut count = 0;
    let error = loop {
        // SAFETY: single-threaded; the child only sleeps.
        match unsafe { libc::fork() } {
            0 => loop {
                rustix::event::pause();
            },
            -1 => break io::Error::last_os_error(),
            _ if count > 100_000 => break io::Error::other("no limit"),
            _ => count += 1,
        }
    };
    println!("{count} then {:?}", error.kind());
    Ok(())
}

/// Numbered lines, `count` bytes of them.
fn pour(count: usize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut left = count;
    let mut number = 0_u64;
    while left > 0 {
        let line = format!("{number:015}\n");
        let part = &line.as_bytes()[..left.min(16)];
        out.write_all(part)?;
        left -= part.len();
        number += 1;
    }
    out.flush()
}

fn wait() -> ! {
    println!("waiting");
    loop {
        rustix::event::pause();
    }
}

/// Says which signal came and exits with 7.
fn trap() -> ! {
    extern "C" fn told(signal: i32) {
        let text: &[u8] =
            if signal == libc::SIGTERM { b"got signal: terminated\n" } else { b"got another\n" };
        // SAFETY: write and _exit are async-signal-safe.
        unsafe {
            libc::write(1, text.as_ptr().cast(), text.len());
            libc::_exit(7);
        }
    }
    for signal in [libc::SIGTERM, libc::SIGUSR1] {
        // SAFETY: the handler is async-signal-safe.
        unsafe { libc::signal(signal, told as *const () as libc::sighandler_t) };
    }
    wait()
}

/// Leaves grandchildren for the first process to reap, then waits until none is a zombie.
fn orphans(count: usize) -> io::Result<()> {
    for _ in 0..count {
        // SAFETY: single-threaded; children only fork and exit.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                if libc::fork() == 0 {
                    libc::_exit(0);
                }
                libc::_exit(0);
            }
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    loop {
        let processes = fs::read_dir("/proc")?.flatten().filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok())
        });
        if processes.count() == 2 {
            println!("all reaped");
            return Ok(());
        }
        std::thread::yield_now();
    }
}

fn terminal() -> io::Result<()> {
    use rustix::termios::{isatty, tcgetwinsize};
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    println!("tty {} {} {}", isatty(&input), isatty(&output), isatty(&error));
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let size = tcgetwinsize(&output)?;
    println!("size {}x{} after {:?}", size.ws_row, size.ws_col, line.trim());
    let controlling = fs::OpenOptions::new().write(true).open("/dev/tty").is_ok();
    println!("controlling {controlling} console {}", fs::metadata("/dev/console").is_ok());
    Ok(())
}

/// One line per dangerous thing: its name and what the kernel said.
fn refusals() -> io::Result<()> {
    let null = std::ptr::null::<libc::c_char>();
    let target = CString::new("/tmp")?;
    let node = CString::new("/tmp/node")?;
    // SAFETY: every pointer is valid or null, and all calls are expected to be refused.
    unsafe {
        say(
            "mount",
            libc::mount(null, target.as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) as i64,
        );
        say("unshare", libc::unshare(libc::CLONE_NEWUSER) as i64);
        say("setns", libc::setns(0, 0) as i64);
        say("mknod", libc::mknod(node.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)) as i64);
        say("keyctl", libc::syscall(libc::SYS_keyctl, 0, -3, 0));
        say("ptrace", libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0));
        say("raw", libc::socket(libc::AF_INET, libc::SOCK_RAW, 1) as i64);
        say("packet", libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) as i64);
        say("alg", libc::socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0) as i64);
        say("bpf", libc::syscall(libc::SYS_bpf, 0, 0, 0));
        say("clone3", libc::syscall(libc::SYS_clone3, 0, 0));
        say(
            "clone-newuser",
            libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0),
        );
        say("x32", libc::syscall(0x4000_0000 + libc::SYS_getpid));
        say("personality", libc::syscall(libc::SYS_personality, 0x004_0000 | 0x20_0000));
    }
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/sys/kernel/mm/ksm/run",
        "/sys/fs/cgroup/x",
    ] {
        let opened = fs::OpenOptions::new().write(true).create(path.ends_with('x')).open(path);
        println!("{path} {}", opened.err().and_then(|error| error.raw_os_error()).unwrap_or(0));
    }
    let own = fs::OpenOptions::new().write(true).open("/proc/1/exe");
    println!("init-exe {}", own.err().and_then(|error| error.raw_os_error()).unwrap_or(0));
    let memory = fs::File::open("/proc/1/mem");
    println!("init-mem {}", memory.err().and_then(|error| error.raw_os_error()).unwrap_or(0));
    // SAFETY: the path is a terminated string. Last, because no path above would be found after it.
    say("chroot", unsafe { libc::chroot(target.as_ptr()) } as i64);
    Ok(())
}

fn say(name: &str, result: i64) {
    let error = if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
    println!("{name} {error}");
}

fn stamp() -> io::Result<()> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    writeln!(io::stdout(), "{}", now.tv_sec * 1_000_000_000 + now.tv_nsec)
}

fn limits() -> io::Result<()> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    println!("files {:?} {:?}", files.current, files.maximum);
    let shm = rustix::fs::statvfs("/dev/shm")?;
    println!("shm {}", shm.f_blocks * shm.f_frsize);
    fs::write("/dev/shm/x", "x")?;
    for mount in fs::read_to_string("/proc/self/mounts")?.lines() {
        println!("{mount}");
    }
    Ok(())
}

/// Writes through the names of the standard streams, as shells do.
fn reopen() -> io::Result<()> {
    fs::OpenOptions::new().write(true).open("/dev/stdout")?.write_all(b"to stdout\n")?;
    fs::OpenOptions::new().write(true).open("/dev/stderr")?.write_all(b"to stderr\n")?;
    let mut rest = Vec::new();
    fs::File::open("/dev/stdin")?.read_to_end(&mut rest)?;
    writeln!(io::stdout(), "{} bytes from stdin", rest.len())
}

/// Answers every connection until killed.
fn listen(addr: &str) -> io::Result<()> {
    let listener = std::net::TcpListener::bind(addr)?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhealthy");
    }
    Ok(())
}
