//! A shorter slice of the processor for this process, so that it need not wait for others'.
//!
//! Since Linux 6.12 a thread may say how long it wants to run at a time (sched(7), `sched_runtime` of
//! `sched_setattr(2)` for `SCHED_OTHER`): one that asks for less than the running one is let in as soon as it
//! wakes, where it otherwise waits for some milliseconds behind whoever needs a whole processor. Its share of the
//! processors stays what it was.

use std::io;
use std::mem::size_of;

/// The shortest there is, nanoseconds.
const SLICE: u64 = 100_000;

/// For this thread and all it will start. Older kernels take it and do as before.
pub(crate) fn shorten() -> io::Result<()> {
    let mut attributes = read()?;
    if attributes.sched_policy != u32::try_from(libc::SCHED_OTHER).map_err(io::Error::other)? {
        return Err(io::Error::other("somebody chose another scheduling policy"));
    }
    attributes.sched_runtime = SLICE;
    write(&attributes)
}

/// How this thread is scheduled.
#[expect(unsafe_code, reason = "no crate of ours wraps sched_getattr")]
fn read() -> io::Result<libc::sched_attr> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).map_err(io::Error::other)?;
    // SAFETY: integers only, for which zeros are a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most `size` bytes into the structure of that size.
    let done = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    attributes.size = size;
    if done == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

#[expect(unsafe_code, reason = "no crate of ours wraps sched_setattr")]
fn write(attributes: &libc::sched_attr) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes of the structure as it says it has.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const *attributes, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether this kernel knows of slices: 6.12 or newer.
    fn knows_slices() -> bool {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        (numbers.next(), numbers.next()) >= (Some(6), Some(12))
    }

    #[test]
    fn threads_inherit_the_slice_and_nothing_else_changes() {
        let threads = std::thread::spawn(|| {
            let before = read().unwrap();
            shorten().unwrap();
            (before, std::thread::spawn(|| read().unwrap()).join().unwrap())
        });
        let (before, after) = threads.join().unwrap();
        assert_eq!(after.sched_policy, before.sched_policy);
        assert_eq!(after.sched_nice, before.sched_nice);
        if knows_slices() {
            assert_eq!(after.sched_runtime, SLICE);
            assert_ne!(before.sched_runtime, SLICE);
        }
    }
}
