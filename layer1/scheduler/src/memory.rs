//! What a scheduler remembers from round to round. Losing all of it costs nothing but patience: every
//! entry is learnt again from controller and hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use controller_api::JobState;
use kit_clock::Mono;
use kit_ids::{HostId, JobId};
use placement::{FormationKey, Refusal, Retry};

use crate::cluster::{HostAnswer, HostSeen};

/// A host that was seen at least once, or that recorded jobs name.
#[derive(Clone, Debug)]
pub(crate) struct KnownHost {
    pub(crate) seen: HostSeen,
    pub(crate) last: HostAnswer,
    /// Since when it does not answer.
    pub(crate) silent: Option<Mono>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// When all of controller and discovery answered for the first time.
    pub(crate) full_view: Option<Mono>,
    pub(crate) hosts: BTreeMap<HostId, KnownHost>,
    /// What the controller was last told of each job that hosts list.
    pub(crate) told: BTreeMap<JobId, JobState>,
    pub(crate) retries: Vec<Retry>,
    pub(crate) refusals: Vec<Refusal>,
    /// Formations that were wanted lately: their last scale request may still be open.
    pub(crate) watched: BTreeSet<FormationKey>,
    /// Formations that have jobs and that the controller does not have: since when, or none for those
    /// that were seen before they went.
    pub(crate) missing: BTreeMap<FormationKey, Option<Mono>>,
    pub(crate) generation: u64,
}

/// How long the jobs of a formation that was never seen are left alone.
const MAY_COME: Duration = Duration::from_secs(30);

impl Memory {
    /// Whether a formation that the controller does not have was deleted. One that was never seen may be
    /// about to be made: the first jobs of a platform run before the controller hears of them.
    pub(crate) fn is_deleted(&mut self, key: &FormationKey, now: Mono) -> bool {
        let seen = self.watched.remove(key);
        let since = self.missing.entry(key.clone()).or_insert(Some(now));
        if seen {
            *since = None;
        }
        since.is_none_or(|since| now.since(since) >= MAY_COME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_whose_formation_is_yet_to_be_made_are_left_alone() {
        let id = "0f0e0d0c-1111-4222-8333-abcdefabcdef";
        let key = FormationKey { app: id.parse().unwrap(), release: id.parse().unwrap() };
        let mut memory = Memory::default();
        let start = Mono::ZERO;
        assert!(!memory.is_deleted(&key, start));
        assert!(!memory.is_deleted(&key, start + Duration::from_secs(29)));
        assert!(memory.is_deleted(&key, start + MAY_COME));
        let mut memory = Memory::default();
        memory.watched.insert(key.clone());
        assert!(memory.is_deleted(&key, start));
        assert!(memory.is_deleted(&key, start + Duration::from_secs(1)));
    }
}
