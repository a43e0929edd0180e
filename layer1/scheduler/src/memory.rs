//! What a scheduler remembers from round to round. Losing all of it costs nothing but patience: every
//! entry is learnt again from controller and hosts.

use std::collections::{BTreeMap, BTreeSet};

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
    pub(crate) generation: u64,
}
