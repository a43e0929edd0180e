//! Programs about output, signals and limits.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

static LAST_SIGNAL: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: libc::c_int) {
    LAST_SIGNAL.store(signal, Ordering::SeqCst);
}

/// Notes the signal instead of ending.
pub(crate) fn catch(signal: libc::c_int) {
    let handler = note as extern "C" fn(libc::c_int);
    // SAFETY: the handler only stores to an atomic.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}

/// Whether a signal that was to be noted has come.
pub(crate) fn was_told_to_end() -> bool {
    LAST_SIGNAL.load(Ordering::SeqCst) != 0
}

/// A line every second.
pub(crate) fn print_for_ever(line: &str) -> ExitCode {
    loop {
        println!("{line}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A line every second; exits 1 when asked to end.
pub(crate) fn crash_on_term() -> ExitCode {
    catch(libc::SIGTERM);
    println!("I like to crash");
    while LAST_SIGNAL.load(Ordering::SeqCst) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    ExitCode::from(1)
}

/// Waits for a signal and names it.
pub(crate) fn say_signal() -> ExitCode {
    catch(libc::SIGTERM);
    catch(libc::SIGINT);
    println!("ready");
    while LAST_SIGNAL.load(Ordering::SeqCst) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupted = LAST_SIGNAL.load(Ordering::SeqCst) == libc::SIGINT;
    println!("got signal: {}", if interrupted { "interrupt" } else { "terminated" });
    ExitCode::SUCCESS
}

/// Takes memory until the kernel ends it.
pub(crate) fn take_memory() -> ExitCode {
    let mut taken = Vec::new();
    loop {
        taken.push(vec![1_u8; 1 << 20]);
        if taken.len().is_multiple_of(16) {
            println!("{} MB", taken.len());
        }
    }
}

/// Prints the limits this job sees: memory, cpu shares, open files.
pub(crate) fn limits() -> ExitCode {
    let v1 = ["/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/cpu/cpu.shares"];
    let v2 = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.weight"];
    for (old, new) in v1.iter().zip(v2) {
        let text = std::fs::read_to_string(old).or_else(|_| std::fs::read_to_string(new));
        println!("{}", text.unwrap_or_else(|error| error.to_string()).trim());
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    println!("{}", limit.rlim_cur);
    ExitCode::SUCCESS
}

/// `lines N`: prints lines 1 to N.
pub(crate) fn lines(args: &[String]) -> ExitCode {
    let count: u64 = args.first().and_then(|count| count.parse().ok()).unwrap_or(10);
    let mut out = std::io::stdout().lock();
    for number in 1..=count {
        if writeln!(out, "line {number}").is_err() {
            return ExitCode::from(1);
        }
    }
    ExitCode::SUCCESS
}

/// `paced N RATE`: prints lines 1 to N, so many in a second.
pub(crate) fn paced(args: &[String]) -> ExitCode {
    let numbers: Vec<u32> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let [count, rate] = numbers[..] else { return ExitCode::from(64) };
    let started = std::time::Instant::now();
    let mut out = std::io::stdout().lock();
    for number in 1..=count {
        let due = Duration::from_secs(1) * number / rate.max(1);
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        if writeln!(out, "line {number}").is_err() {
            return ExitCode::from(1);
        }
    }
    ExitCode::SUCCESS
}

/// Copies input to output.
pub(crate) fn cat() -> ExitCode {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = input.read(&mut buffer) {
        if count == 0 || output.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop(output.flush());
    ExitCode::SUCCESS
}

/// `write FILE TEXT`.
pub(crate) fn write(args: &[String]) -> ExitCode {
    let [path, text] = args else { return ExitCode::from(64) };
    if std::fs::write(path, text).is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// `read FILE`: prints it.
pub(crate) fn read(args: &[String]) -> ExitCode {
    let text = args.first().and_then(|path| std::fs::read_to_string(path).ok());
    text.map_or(ExitCode::from(1), |text| {
        print!("{text}");
        ExitCode::SUCCESS
    })
}

/// Forks until it is refused; says how far it came.
pub(crate) fn fork_bomb() -> ExitCode {
    let mut children = 0;
    loop {
        // SAFETY: single threaded; the child only waits.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: pause has no arguments.
                unsafe { libc::pause() };
                return ExitCode::SUCCESS;
            }
            -1 => {
                println!("refused after {children}");
                return ExitCode::SUCCESS;
            }
            _ => children += 1,
        }
    }
}

/// `fill FILE`: writes until the disk is full; says how far it came.
pub(crate) fn fill_disk(args: &[String]) -> ExitCode {
    let path = args.first().map_or("/fill", String::as_str);
    let Ok(mut file) = std::fs::File::create(path) else { return ExitCode::from(1) };
    let chunk = vec![7_u8; 1 << 20];
    let mut megabytes = 0;
    loop {
        if let Err(error) = file.write_all(&chunk).and_then(|()| file.sync_data()) {
            println!("refused after {megabytes} MB: {error}");
            return ExitCode::SUCCESS;
        }
        megabytes += 1;
    }
}

/// Prints the clock all processes of a machine share, in nanoseconds: its own first instruction, nearly.
pub(crate) fn stamp() -> ExitCode {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local that lives for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    println!("{}", now.tv_sec * 1_000_000_000 + now.tv_nsec);
    ExitCode::SUCCESS
}
