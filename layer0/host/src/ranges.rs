//! Which 65,536 user ids an app's jobs are mapped to: 1000000 + n · 65536, one range per app, durable,
//! none that /etc/subuid has given to somebody else.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use host_container::protocol::UserNamespace;
use tokio::sync::Mutex;

use crate::store::{RANGES, Store, StoreError};

const FIRST: u32 = 1_000_000;
const SIZE: u32 = 65_536;

/// The host's ranges by owner: an app's id, or a job's.
#[derive(Debug)]
pub(crate) struct Ranges {
    store: Store,
    owners: Mutex<BTreeMap<String, u32>>,
    foreign: Vec<Range<u32>>,
}

/// Why an owner has no range.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RangeError {
    #[error("every range of user ids is taken")]
    Full,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ranges {
    pub(crate) fn open(store: Store) -> Result<Self, StoreError> {
        let foreign =
            fs::read_to_string("/etc/subuid").map(|text| parse_subuid(&text)).unwrap_or_default();
        let owners = Mutex::new(store.all(RANGES)?.into_iter().collect());
        Ok(Self { store, owners, foreign })
    }

    /// The owner's range: the one it has, or a free one.
    pub(crate) async fn of(&self, owner: &str) -> Result<UserNamespace, RangeError> {
        let mut owners = self.owners.lock().await;
        if let Some(number) = owners.get(owner) {
            return Ok(namespace(*number));
        }
        let number = free(&owners, &self.foreign).ok_or(RangeError::Full)?;
        self.store.put(RANGES, owner, &number).await?;
        owners.insert(owner.to_owned(), number);
        Ok(namespace(number))
    }

    /// The owner has nothing on disk any more.
    pub(crate) async fn free(&self, owner: &str) -> Result<(), StoreError> {
        let mut owners = self.owners.lock().await;
        if owners.contains_key(owner) {
            self.store.delete(RANGES, owner).await?;
            owners.remove(owner);
        }
        Ok(())
    }
}

fn namespace(number: u32) -> UserNamespace {
    UserNamespace { base: FIRST + number * SIZE, size: SIZE }
}

fn free(owners: &BTreeMap<String, u32>, foreign: &[Range<u32>]) -> Option<u32> {
    let taken: std::collections::BTreeSet<_> = owners.values().copied().collect();
    let last = (u32::MAX - FIRST) / SIZE - 1;
    (0..last).find(|number| {
        let UserNamespace { base, size } = namespace(*number);
        !taken.contains(number)
            && foreign.iter().all(|range| base + size <= range.start || range.end <= base)
    })
}

/// `name:first:count` lines; others are skipped.
fn parse_subuid(text: &str) -> Vec<Range<u32>> {
    let range = |line: &str| {
        let mut fields = line.split(':').skip(1);
        let first: u32 = fields.next()?.trim().parse().ok()?;
        let count: u32 = fields.next()?.trim().parse().ok()?;
        Some(first..first.saturating_add(count))
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_range_is_kept_and_used_again_once_free() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let ranges = Ranges {
            foreign: parse_subuid("bob:1065536:65536\nodd\n"),
            ..Ranges::open(store.clone()).unwrap()
        };
        let a = ranges.of("a").await.unwrap();
        let b = ranges.of("b").await.unwrap();
        assert_eq!((a.base, b.base), (1_000_000, 1_131_072), "bob's range is left out");
        assert_eq!(Ranges::open(store).unwrap().of("a").await.unwrap(), a);
        ranges.free("a").await.unwrap();
        assert_eq!(ranges.of("c").await.unwrap(), a);
    }
}
