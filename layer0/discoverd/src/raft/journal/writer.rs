//! The thread that writes: all that is queued goes to disk together.

use std::io;
use std::sync::PoisonError;

use super::{Durable, Shared, Write, to_long};

/// Room is filled so much at a time. A file system may keep what was written at once as one piece of its cache,
/// and looks through the whole piece at every small write into it later (ext4 since Linux 6.16).
static ZEROS: [u8; 4096] = [0; 4096];

/// Writes until the journal is closed and its queue empty.
pub(super) fn run(shared: &Shared) {
    let mut lengths = [0; 2];
    for (length, file) in lengths.iter_mut().zip(&shared.files) {
        match file.len() {
            Ok(found) => *length = found,
            Err(error) => return refuse(shared.fail(&error), &error),
        }
    }
    while let Some(mut writes) = next(shared) {
        let written = write(shared, &mut lengths, &writes);
        if let Err(error) = written {
            writes.extend(shared.fail(&error));
            refuse(writes, &error);
            // The rest is refused as it comes.
            continue;
        }
        told(shared, writes);
        let tended = empty(shared, &mut lengths).and_then(|()| extend_ahead(shared, &mut lengths));
        if let Err(error) = tended {
            refuse(shared.fail(&error), &error);
        }
    }
}

/// Waits for something to write; None once there will be nothing more.
fn next(shared: &Shared) -> Option<Vec<Write>> {
    let mut state = shared.lock();
    loop {
        if !state.queue.is_empty() {
            return Some(std::mem::take(&mut state.queue));
        }
        if state.closing {
            return None;
        }
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn write(shared: &Shared, lengths: &mut [u64; 2], writes: &[Write]) -> io::Result<()> {
    for run in writes.chunk_by(|one, next| one.file == next.file) {
        let (Some(first), Some(file)) = (run.first(), run.first().map(|one| one.file)) else {
            continue;
        };
        let joined;
        let bytes = if let [one] = run {
            &one.bytes
        } else {
            joined = run.iter().flat_map(|one| one.bytes.iter().copied()).collect::<Vec<_>>();
            &joined
        };
        let end = first.offset + u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if end > lengths[file] {
            extend(shared, &mut lengths[file], file, end)?;
        }
        shared.files[file].write(first.offset, bytes)?;
        shared.files[file].sync_data()?;
    }
    Ok(())
}

/// Makes the file longer, with zeros from `from` on. They are on disk with the next sync.
fn extend(shared: &Shared, length: &mut u64, file: usize, from: u64) -> io::Result<()> {
    let extent = shared.sizes.extent;
    let end = (from + 1).next_multiple_of(extent);
    shared.files[file].set_len(end)?;
    let mut at = from;
    while at < end {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let zeros = &ZEROS[..left.min(ZEROS.len())];
        shared.files[file].write(at, zeros)?;
        at += to_long(zeros.len());
    }
    *length = end;
    Ok(())
}

/// Makes room before it is needed, while nobody waits.
fn extend_ahead(shared: &Shared, lengths: &mut [u64; 2]) -> io::Result<()> {
    let (file, end) = {
        let state = shared.lock();
        (state.active, state.end)
    };
    let length = lengths[file];
    // A file that was not begun yet gets its room with its first frame.
    if end == 0 || length == 0 || end + shared.sizes.extent / 4 < length {
        return Ok(());
    }
    extend(shared, &mut lengths[file], file, length.max(end))?;
    shared.files[file].sync_data()
}

/// Empties the file that is not written to once all its entries are purged.
fn empty(shared: &Shared, lengths: &mut [u64; 2]) -> io::Result<()> {
    let file = {
        let state = shared.lock();
        let other = 1 - state.active;
        let purged = state.index.purged().map(|purged| purged.index);
        // Only what is on disk is purged for good.
        let settled = state.synced == state.number;
        match state.files[other] {
            Some(highest) if settled && Some(highest) <= purged => other,
            Some(_) | None => return Ok(()),
        }
    };
    shared.files[file].set_len(0)?;
    shared.files[file].sync_data()?;
    lengths[file] = 0;
    shared.lock().files[file] = None;
    Ok(())
}

fn told(shared: &Shared, writes: Vec<Write>) {
    let Some((number, last)) = writes.last().map(|write| (write.number, write.last)) else {
        return;
    };
    shared.lock().synced = number;
    shared.durable.send_modify(|durable: &mut Durable| durable.last = last);
    for done in writes.into_iter().filter_map(|write| write.done) {
        done(Ok(()));
    }
}

fn refuse(writes: Vec<Write>, error: &io::Error) {
    for done in writes.into_iter().filter_map(|write| write.done) {
        done(Err(io::Error::new(error.kind(), error.to_string())));
    }
}
