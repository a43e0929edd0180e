//! Which entries there are and where: in memory for all, with the newest ones themselves, so that what is
//! applied or sent on right after it was written is never read from disk.

use std::collections::VecDeque;
use std::ops::{Bound, Range, RangeBounds};

use super::super::types::{Entry, LogId};

/// Where an entry's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) length: usize,
}

#[derive(Debug)]
struct Slot {
    log_id: LogId,
    place: Place,
    /// The number of the frame that holds it.
    frame: u64,
    /// The entry itself, while it is among the newest.
    entry: Option<Entry>,
}

/// An entry to be read.
#[derive(Debug)]
pub(super) enum Held {
    Here(Entry),
    There(Place),
}

/// All entries of the log, without a gap.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: VecDeque<Slot>,
    purged: Option<LogId>,
    /// How many of the last slots hold their entry, and how many bytes those are as text.
    warm: usize,
    warm_bytes: usize,
}

impl Index {
    /// The newest entry, or where the log was purged up to.
    pub(super) fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.log_id).or(self.purged)
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// Whether an entry of this index leaves no gap; one that is there already is replaced.
    pub(super) fn fits(&self, index: u64) -> bool {
        let next = self.last().map_or(0, |last| last.index + 1);
        index <= next && self.purged.is_none_or(|purged| index > purged.index)
    }

    /// Whether an entry of this index may come next where a file is read whose purged beginning may be
    /// gone already: see [`Self::is_whole`].
    pub(super) fn may_follow(&self, index: u64) -> bool {
        self.slots.is_empty() && self.purged.is_none_or(|purged| index > purged.index)
            || self.fits(index)
    }

    /// Whether no entry is missing between what was purged and the first one.
    pub(super) fn is_whole(&self) -> bool {
        let first = self.purged.map_or(0, |purged| purged.index + 1);
        self.slots.front().is_none_or(|slot| slot.log_id.index == first)
    }

    /// Adds an entry that is on disk; those of its index and behind it are gone.
    pub(super) fn push_cold(&mut self, log_id: LogId, place: Place) {
        self.truncate(log_id.index);
        self.slots.push_back(Slot { log_id, place, frame: 0, entry: None });
    }

    /// Adds an entry that is in the frame of this number; those of its index and behind it are gone.
    pub(super) fn push(&mut self, entry: Entry, place: Place, frame: u64) {
        let log_id = entry.log_id;
        self.truncate(log_id.index);
        self.warm += 1;
        self.warm_bytes += place.length;
        self.slots.push_back(Slot { log_id, place, frame, entry: Some(entry) });
    }

    /// Drops the entries from `from` on.
    pub(super) fn truncate(&mut self, from: u64) {
        while let Some(slot) = self.slots.pop_back_if(|slot| slot.log_id.index >= from) {
            self.forget(&slot);
        }
    }

    /// Drops the entries up to `upto`.
    pub(super) fn purge(&mut self, upto: LogId) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.log_id.index <= upto.index) {
            self.forget(&slot);
        }
        self.purged = self.purged.max(Some(upto));
    }

    fn forget(&mut self, slot: &Slot) {
        if slot.entry.is_some() {
            self.warm -= 1;
            self.warm_bytes -= slot.place.length;
        }
    }

    /// Lets go of the oldest entries until those held are at most `bytes`; none whose frame comes behind
    /// `synced` is let go of, as its text may not be in its place yet.
    pub(super) fn cool(&mut self, bytes: usize, synced: u64) {
        while self.warm_bytes > bytes && self.warm > 0 {
            let at = self.slots.len() - self.warm;
            let slot = &mut self.slots[at];
            if slot.frame > synced {
                return;
            }
            slot.entry = None;
            self.warm -= 1;
            self.warm_bytes -= slot.place.length;
        }
    }

    /// The entries of a range that are there.
    pub(super) fn held(&self, range: &impl RangeBounds<u64>) -> Vec<Held> {
        let slots = self.slots.range(self.positions(range));
        let held = |slot: &Slot| match &slot.entry {
            Some(entry) => Held::Here(entry.clone()),
            None => Held::There(slot.place),
        };
        slots.map(held).collect()
    }

    /// Whether all entries of a range that are there are in memory.
    pub(super) fn is_warm(&self, range: &impl RangeBounds<u64>) -> bool {
        self.positions(range).start >= self.slots.len() - self.warm
    }

    /// The log id of an entry, or of the end of what was purged.
    pub(super) fn log_id(&self, index: u64) -> Option<LogId> {
        let at = self.positions(&(index..=index));
        let slot = self.slots.range(at).next().map(|slot| slot.log_id);
        slot.or(self.purged.filter(|purged| purged.index == index))
    }

    fn positions(&self, range: &impl RangeBounds<u64>) -> Range<usize> {
        let first = self.slots.front().map_or(0, |slot| slot.log_id.index);
        let position = |index: u64| {
            let at = usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX);
            at.min(self.slots.len())
        };
        let start = match range.start_bound() {
            Bound::Included(start) => position(*start),
            Bound::Excluded(start) => position(start.saturating_add(1)),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => position(end.saturating_add(1)),
            Bound::Excluded(end) => position(*end),
            Bound::Unbounded => self.slots.len(),
        };
        start..end.max(start)
    }
}
