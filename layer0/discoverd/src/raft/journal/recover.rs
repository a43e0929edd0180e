//! What a start finds on disk. The end of the last write may be torn, as power can go at any moment: it
//! was never answered for and is dropped. Anything else that cannot be read was answered for, and the
//! start fails rather than go on without it.

use std::ops::Range;

use redb::StorageBackend;

use super::super::store::StoreError;
use super::super::types::{Entry, LogId};
use super::frame::{Found, Kind, beyond};
use super::index::{Index, Place};

/// What was found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) committed: Option<LogId>,
    /// The file that is written to, and where it ends.
    pub(super) active: usize,
    pub(super) end: u64,
    /// The number of the last frame.
    pub(super) number: u64,
    /// The highest index each file ever held; None for a file without any frame.
    pub(super) files: [Option<u64>; 2],
}

/// The frames of one file.
struct Scan {
    bytes: Vec<u8>,
    frames: Vec<Found>,
    /// Of frames behind the last one that follows from the one before: number and synced number.
    beyond: Vec<(u64, u64)>,
}

/// Reads both files; None when there is no journal in them.
pub(super) fn recover(
    files: &[Box<dyn StorageBackend>; 2],
) -> Result<Option<Recovered>, StoreError> {
    let mut scans = [scan(files[0].as_ref())?, scan(files[1].as_ref())?];
    let mut order: Vec<usize> = (0..2).filter(|file| !scans[*file].frames.is_empty()).collect();
    order.sort_by_key(|file| scans[*file].frames.first().map(|frame| frame.number));
    if let [older, newer] = order[..] {
        let next = scans[older].frames.last().map_or(0, |frame| frame.number) + 1;
        let first = scans[newer].frames.first().map_or(0, |frame| frame.number);
        if first < next {
            return Err(StoreError::Damaged("its files overlap"));
        }
        if first > next {
            // The write that began the newer file lost its part in the older one.
            let unread = std::mem::take(&mut scans[newer].frames);
            scans[newer].beyond.extend(unread.iter().map(|frame| (frame.number, frame.synced)));
            order.pop();
        }
    }
    let Some(active) = order.last().copied() else { return Ok(None) };
    let number = scans[active].frames.last().map_or(0, |frame| frame.number);
    let lost = |(later, synced): &(u64, u64)| *later > number && *synced > number;
    if scans.iter().flat_map(|scan| &scan.beyond).any(lost) {
        return Err(StoreError::Damaged("frames are missing from its middle"));
    }
    let mut found = Recovered {
        index: Index::default(),
        committed: None,
        active,
        end: to_long(scans[active].frames.last().map_or(0, |frame| frame.end)),
        number,
        files: [None, None],
    };
    for file in order {
        found.files[file] = Some(0);
        for frame in &scans[file].frames {
            for part in frame.parts(&scans[file].bytes) {
                let (kind, at) = part.ok_or(StoreError::Damaged("it is of a newer version"))?;
                found.take(file, &scans[file].bytes, kind, at)?;
            }
        }
    }
    if !found.index.is_whole() {
        return Err(StoreError::Damaged("its first entries are missing"));
    }
    drop_the_rest(files, &found)?;
    Ok(Some(found))
}

fn scan(file: &dyn StorageBackend) -> Result<Scan, StoreError> {
    let length = usize::try_from(file.len()?).map_err(std::io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read(0, &mut bytes)?;
    let (mut frames, mut at) = (Vec::<Found>::new(), 0);
    while let Some(frame) = Found::at(&bytes, at) {
        if frames.last().is_some_and(|last| frame.number != last.number + 1) {
            break;
        }
        at = frame.end;
        frames.push(frame);
    }
    let starts = frames.first().is_some_and(|frame| {
        frame
            .parts(&bytes)
            .first()
            .is_some_and(|part| part.as_ref().is_some_and(|(kind, _)| *kind == Kind::Start))
    });
    if !starts {
        (frames, at) = (Vec::new(), 0);
    }
    let beyond = beyond(&bytes, at).map(|frame| (frame.number, frame.synced)).collect();
    Ok(Scan { bytes, frames, beyond })
}

impl Recovered {
    fn take(
        &mut self,
        file: usize,
        bytes: &[u8],
        kind: Kind,
        at: Range<usize>,
    ) -> Result<(), StoreError> {
        let data = &bytes[at.clone()];
        match kind {
            Kind::Start => {}
            Kind::Entry => {
                let entry: Entry = read("log entry", data)?;
                let log_id = entry.log_id;
                if !self.index.may_follow(log_id.index) {
                    return Err(StoreError::Damaged("entries are missing from its middle"));
                }
                let place = Place { file, offset: to_long(at.start), length: data.len() };
                self.index.push_cold(log_id, place);
                self.files[file] = self.files[file].max(Some(log_id.index));
            }
            Kind::Truncate => {
                let from = data.try_into().map(u64::from_le_bytes);
                self.index.truncate(from.map_err(|_| StoreError::Damaged("a part is cut short"))?);
            }
            Kind::Purge => self.index.purge(read("purged log id", data)?),
            Kind::Committed => self.committed = Some(read("committed log id", data)?),
        }
        Ok(())
    }
}

/// What is behind the last frame must not be taken for something later.
fn drop_the_rest(
    files: &[Box<dyn StorageBackend>; 2],
    found: &Recovered,
) -> Result<(), StoreError> {
    for (number, file) in files.iter().enumerate() {
        let end = match found.files[number] {
            Some(_) if number == found.active => found.end,
            Some(_) => continue,
            None => 0,
        };
        if file.len()? > end {
            file.set_len(end)?;
            file.sync_data()?;
        }
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(what: &'static str, data: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(data).map_err(|source| StoreError::Unreadable { what, source })
}

fn to_long(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}
