//! Wall clocks that are wrong: the processes of one host read a time that is off by so many seconds.
//!
//! A machine's namespaces share one wall clock, and programs read it without asking the kernel, by code the
//! kernel puts into every process (vdso(7)). In the processes of the host that code is replaced by one that
//! asks the kernel and adds the seconds. What is started later reads the right time.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::hosts::Host;

/// Generous: a thread is in code of a few instructions for less than a microsecond.
const PATIENCE: Duration = Duration::from_secs(30);

impl Host {
    /// Sets the wall clocks of all processes on the host ahead of the machine's by `seconds`, or back; 0 is
    /// right. The host stands still meanwhile, some milliseconds. Says how many processes there are.
    pub fn set_clock(&self, seconds: i32) -> anyhow::Result<usize> {
        let patches = patches(seconds)?;
        // All together: a supervisor that goes on has its job go on.
        let still = Still::of(self.everything());
        let mut count = 0;
        for pid in &still.pids {
            let done = patch(*pid, &patches);
            // Whoever ended meanwhile needs no clock.
            let Ok(name) = std::fs::read_to_string(format!("/proc/{pid}/comm")) else { continue };
            count += done.with_context(|| format!("{} ({pid}) has its own time", name.trim()))?;
        }
        Ok(count)
    }
}

/// Processes that stand still as long as this lives.
#[derive(Debug)]
struct Still {
    pids: Vec<i32>,
}

impl Still {
    /// But for those that do already.
    fn of(mut pids: Vec<i32>) -> Self {
        pids.retain(|pid| is_stopped(*pid).is_ok_and(|stopped| !stopped));
        pids.iter().for_each(|pid| send(*pid, libc::SIGSTOP));
        Self { pids }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.pids.iter().for_each(|pid| send(*pid, libc::SIGCONT));
    }
}

/// Code in the place of other code, which begins so far behind the beginning of the vdso.
#[derive(Debug)]
struct Patch {
    at: u64,
    code: Vec<u8>,
}

/// x86-64, by the calling convention of C.
fn patches(seconds: i32) -> anyhow::Result<Vec<Patch>> {
    let seconds = seconds.to_le_bytes();
    // mov eax, NUMBER; syscall
    let ask = |number: u8| [&[0xb8, number, 0, 0, 0][..], &[0x0f, 0x05]].concat();
    let code = [
        // test edi, edi (CLOCK_REALTIME?); jne; add qword [rsi], SECONDS; ret
        (
            "__vdso_clock_gettime",
            ask(228),
            &[0x85, 0xff, 0x75, 7, 0x48, 0x81, 0x06][..],
            &[0xc3][..],
        ),
        // test rdi, rdi; je; add qword [rdi], SECONDS; ret
        ("__vdso_gettimeofday", ask(96), &[0x48, 0x85, 0xff, 0x74, 7, 0x48, 0x81, 0x07], &[0xc3]),
        // add rax, SECONDS; test rdi, rdi; je; mov [rdi], rax; ret
        (
            "__vdso_time",
            ask(201),
            &[0x48, 0x05],
            &[0x48, 0x85, 0xff, 0x74, 3, 0x48, 0x89, 0x07, 0xc3],
        ),
    ];
    let own = vdso_of("self")?.context("this kernel has no vdso")?;
    let mut image = vec![0; usize::try_from(own.end - own.start)?];
    File::open("/proc/self/mem")?.read_exact_at(&mut image, own.start)?;
    let whole = |(name, ask, before, after): (&str, Vec<u8>, &[u8], &[u8])| {
        let (at, size) = function(&image, name).with_context(|| format!("no {name}"))?;
        let code = [&ask[..], before, &seconds, after].concat();
        ensure!(code.len() as u64 <= size, "{name} is too short");
        Ok(Patch { at, code })
    };
    code.into_iter().map(whole).collect()
}

/// Where a process has its vdso.
fn vdso_of(pid: &str) -> anyhow::Result<Option<Range<u64>>> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"));
    let range = line.and_then(|line| line.split(' ').next()?.split_once('-'));
    let Some((start, end)) = range else { return Ok(None) };
    Ok(Some(u64::from_str_radix(start, 16)?..u64::from_str_radix(end, 16)?))
}

/// Replaces the code of a process that has been told to stand still, with no thread inside of it. Says how many
/// processes were patched: one, or none that has such code.
fn patch(pid: i32, patches: &[Patch]) -> anyhow::Result<usize> {
    let Some(vdso) = vdso_of(&pid.to_string())? else { return Ok(0) };
    let memory = File::options().write(true).open(format!("/proc/{pid}/mem"))?;
    let began = Instant::now();
    loop {
        ensure!(began.elapsed() < PATIENCE, "{pid} does not stand still");
        if !is_stopped(pid)? {
            std::thread::sleep(Duration::from_millis(1));
            // Perhaps somebody had it go on.
            send(pid, libc::SIGSTOP);
            continue;
        }
        let inside = |counter: u64, patch: &Patch| {
            let begin = vdso.start + patch.at;
            (begin..begin + patch.code.len() as u64).contains(&counter)
        };
        let is_busy = |counter: &u64| patches.iter().any(|patch| inside(*counter, patch));
        if !counters(pid)?.iter().any(is_busy) {
            break;
        }
        send(pid, libc::SIGCONT);
    }
    for patch in patches {
        memory.write_all_at(&patch.code, vdso.start + patch.at)?;
    }
    Ok(1)
}

fn send(pid: i32, signal: libc::c_int) {
    // SAFETY: kill takes numbers only; the process is one of this sandbox.
    unsafe { libc::kill(pid, signal) };
}

/// Whether every thread stands still.
fn is_stopped(pid: i32) -> anyhow::Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        if !matches!(state, Some('T' | 't' | 'Z' | 'X')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// At which instruction each thread stands, proc_pid_syscall(5).
fn counters(pid: i32) -> anyhow::Result<Vec<u64>> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("syscall"))?;
        let last = text.trim().rsplit(' ').next().and_then(|last| last.strip_prefix("0x"));
        all.extend(last.map(|hex| u64::from_str_radix(hex, 16)).transpose()?);
    }
    Ok(all)
}

/// A function's place and size in an ELF file of 64 bits, by its table of dynamic symbols (elf(5)).
fn function(image: &[u8], name: &str) -> Option<(u64, u64)> {
    const DYNAMIC_SYMBOLS: u64 = 11;
    let number = |at: usize, size: usize| {
        let bytes = image.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let place = |at: usize, size: usize| usize::try_from(number(at, size)?).ok();
    let (sections, size, count) = (place(0x28, 8)?, place(0x3a, 2)?, place(0x3c, 2)?);
    let section = |index: usize| sections + index * size;
    let symbols = (0..count).map(section).find(|at| number(at + 4, 4) == Some(DYNAMIC_SYMBOLS))?;
    let names = place(section(place(symbols + 0x28, 4)?) + 0x18, 8)?;
    let (first, length) = (place(symbols + 0x18, 8)?, place(symbols + 0x20, 8)?);
    (first..first + length).step_by(24).find_map(|symbol| {
        let text = image.get(names + place(symbol, 4)?..)?;
        let found = text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0));
        if !found {
            return None;
        }
        number(symbol + 8, 8).zip(number(symbol + 16, 8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::time::{SystemTime, UNIX_EPOCH};

    /// A program that reads the time whenever it is asked.
    fn clock() -> Child {
        let script = "while read -r line; do printf '%(%s)T\\n' -1; done";
        let mut command = Command::new("bash");
        let command = command.args(["-c", script]).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    fn ahead(clock: &mut Child) -> i64 {
        use std::io::{BufRead as _, BufReader, Write as _};
        clock.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        BufReader::new(clock.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        line.trim().parse::<i64>().unwrap() - i64::try_from(now).unwrap()
    }

    #[test]
    fn a_process_reads_the_time_it_is_told() {
        let mut child = clock();
        assert!(ahead(&mut child).abs() < 60);
        let pid = i32::try_from(child.id()).unwrap();
        for seconds in [3600, -7200, 0] {
            let still = Still::of(vec![pid]);
            assert_eq!(patch(pid, &patches(seconds).unwrap()).unwrap(), 1);
            drop(still);
            let off = ahead(&mut child) - i64::from(seconds);
            assert!(off.abs() < 60, "{seconds}: {off} off");
        }
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
