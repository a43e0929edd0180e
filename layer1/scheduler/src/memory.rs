//! What a scheduler remembers from round to round. Losing all of it costs nothing but patience: every
//! entry is learnt again from controller and hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use controller_api::JobState;
use kit_clock::Mono;
use kit_ids::{HostId, JobId};
use placement::{FormationKey, ProcessName, Refusal, Retry};

use crate::cluster::{HostAnswer, HostSeen, Kept};

/// A host that was seen at least once, or that recorded jobs name.
#[derive(Clone, Debug)]
pub(crate) struct KnownHost {
    pub(crate) seen: HostSeen,
    pub(crate) last: HostAnswer,
    /// Since when it does not answer.
    pub(crate) silent: Option<Mono>,
    /// Discovery lists it.
    pub(crate) listed: bool,
}

impl KnownHost {
    /// A host that was not asked yet.
    pub(crate) fn new(seen: HostSeen) -> Self {
        Self { seen, last: HostAnswer::default(), silent: None, listed: false }
    }
}

/// A host's no, and how often in a row it said so.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) times: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Since when controller and a quorum of discovery have answered without a long break.
    pub(crate) full_view: Option<Mono>,
    /// When they did last.
    pub(crate) viewed: Option<Mono>,
    /// What discovery keeps of the hosts; none before it was read.
    pub(crate) kept: Option<Kept>,
    pub(crate) hosts: BTreeMap<HostId, KnownHost>,
    /// What the controller was last told of each job that hosts list.
    pub(crate) told: BTreeMap<JobId, JobState>,
    pub(crate) retries: Vec<Retry>,
    pub(crate) refusals: Vec<Refused>,
    /// Formations that were wanted lately: their last scale request may still be open.
    pub(crate) watched: BTreeSet<FormationKey>,
    /// Formations that have jobs and that the controller does not have: since when, or none for those
    /// that were seen before they went.
    pub(crate) missing: BTreeMap<FormationKey, Option<Mono>>,
    pub(crate) generation: u64,
}

/// How long a host that refused a type is not asked again; each further refusal doubles it.
const REFUSED_FOR: Duration = Duration::from_secs(5);
const REFUSED_AT_MOST: Duration = Duration::from_secs(60);
/// What is remembered of ended jobs that nobody replaces.
const RETRIES_KEPT_FOR: Duration = Duration::from_secs(300);
/// How long a refusal counts as one of a row after the host could have been asked again.
const REFUSALS_KEPT_FOR: Duration = Duration::from_secs(120);

/// How long the jobs of a formation that was never seen are left alone.
const MAY_COME: Duration = Duration::from_secs(30);

impl Memory {
    /// Remembers that a host said no, for longer each time.
    pub(crate) fn refused(&mut self, mut refusal: Refusal, now: Mono) {
        let is_same = |known: &Refused| {
            known.refusal.host == refusal.host
                && known.refusal.formation == refusal.formation
                && known.refusal.process == refusal.process
        };
        let before = self.refusals.iter().position(is_same).map(|at| self.refusals.remove(at));
        // Several jobs of one type that were refused at once were refused once.
        let times = match before {
            Some(before) if before.refusal.until > now => before.times,
            Some(before) => before.times.saturating_add(1),
            None => 1,
        };
        let pause = REFUSED_FOR.saturating_mul(1 << (times - 1).min(8));
        refusal.until = now + pause.min(REFUSED_AT_MOST);
        self.refusals.push(Refused { refusal, times });
    }

    /// A host that took a job of the type starts anew.
    pub(crate) fn accepted(&mut self, host: &HostId, key: &FormationKey, process: &ProcessName) {
        self.refusals.retain(|Refused { refusal, .. }| {
            refusal.host != *host || refusal.formation != *key || refusal.process != *process
        });
    }

    /// Forgets what is too old to matter.
    pub(crate) fn forget_old(&mut self, now: Mono) {
        self.refusals.retain(|known| now.since(known.refusal.until) < REFUSALS_KEPT_FOR);
        self.retries.retain(|retry| now.since(retry.not_before) < RETRIES_KEPT_FOR);
    }

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
    fn a_host_that_keeps_refusing_is_asked_less_and_less() {
        let id = "0f0e0d0c-1111-4222-8333-abcdefabcdef";
        let key = FormationKey { app: id.parse().unwrap(), release: id.parse().unwrap() };
        let host: HostId = "a".parse().unwrap();
        let refusal = |host: &HostId| Refusal {
            host: host.clone(),
            formation: key.clone(),
            process: "web".into(),
            why: "no room".to_owned(),
            until: Mono::ZERO,
        };
        let (mut memory, mut now, mut pauses) = (Memory::default(), Mono::ZERO, Vec::new());
        for _ in 0..6 {
            memory.refused(refusal(&host), now);
            memory.refused(refusal(&host), now);
            assert_eq!(memory.refusals.len(), 1, "two at once are one");
            let until = memory.refusals[0].refusal.until;
            pauses.push(now.until(until).as_secs());
            now = until;
            memory.forget_old(now);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        memory.accepted(&host, &key, &"web".into());
        memory.refused(refusal(&host), now);
        assert_eq!(now.until(memory.refusals[0].refusal.until).as_secs(), 5);
        memory.forget_old(now + Duration::from_secs(5) + REFUSALS_KEPT_FOR);
        assert!(memory.refusals.is_empty());
    }

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
