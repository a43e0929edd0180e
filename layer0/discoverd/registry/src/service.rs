//! One service: its instances in two orders, its leader, its metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Id, LogIndex};

/// How a service gets its leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Election {
    /// The instance with the lowest index, chosen again at each change of instances.
    #[default]
    Oldest,
    /// Set by command only; stays while that instance is away.
    Manual,
}

/// Where an instance is and what it says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// `host:port`.
    pub addr: String,
    /// Mostly `tcp`.
    pub proto: String,
    /// What it says about itself.
    pub meta: BTreeMap<String, String>,
}

/// A registered instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id within the service.
    pub id: Id,
    /// Where it is and what it says about itself.
    pub registration: Registration,
    /// The log index of its first registration; kept until it leaves.
    pub index: LogIndex,
}

/// A service's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// A JSON text.
    pub data: Arc<str>,
    /// The log index of the write.
    pub index: LogIndex,
}

/// An instance as the registry keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) instance: Arc<Instance>,
    /// The last write that named it, changed or not.
    pub(crate) touched: LogIndex,
}

/// What became of a registration.
pub(crate) enum Registered {
    New(Arc<Instance>),
    Changed(Arc<Instance>),
    Same,
}

/// A service. `by_index` holds the same instances as `by_id`: the first of it is the oldest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) election: Election,
    pub(crate) leader: Option<Id>,
    pub(crate) meta: Option<Meta>,
    /// Whether there ever was an instance: removing one is refused before.
    pub(crate) had_instances: bool,
    by_id: BTreeMap<Id, Kept>,
    by_index: BTreeMap<LogIndex, Arc<Instance>>,
}

impl Service {
    pub(crate) fn new(election: Election) -> Self {
        Self { election, ..Self::default() }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Kept> {
        self.by_id.get(id)
    }

    /// Instances, oldest first.
    pub(crate) fn instances(&self) -> impl ExactSizeIterator<Item = &Arc<Instance>> {
        self.by_index.values()
    }

    pub(crate) fn leader_instance(&self) -> Option<&Arc<Instance>> {
        let leader = self.leader.as_ref()?;
        self.by_id.get(leader).map(|kept| &kept.instance)
    }

    /// Adds an instance or changes it; a known one keeps its index.
    pub(crate) fn register(
        &mut self,
        id: Id,
        registration: Registration,
        at: LogIndex,
    ) -> Registered {
        self.had_instances = true;
        let known = self.by_id.get_mut(&id);
        if let Some(kept) = known {
            kept.touched = at;
            if kept.instance.registration == registration {
                return Registered::Same;
            }
            let index = kept.instance.index;
            let changed = Arc::new(Instance { id, registration, index });
            kept.instance = Arc::clone(&changed);
            self.by_index.insert(index, Arc::clone(&changed));
            return Registered::Changed(changed);
        }
        let instance = Arc::new(Instance { id, registration, index: at });
        self.put(Arc::clone(&instance), at);
        Registered::New(instance)
    }

    /// Puts an instance as it is, for a restored snapshot.
    pub(crate) fn put(&mut self, instance: Arc<Instance>, touched: LogIndex) {
        self.by_index.insert(instance.index, Arc::clone(&instance));
        self.by_id.insert(instance.id.clone(), Kept { instance, touched });
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Arc<Instance>> {
        let removed = self.by_id.remove(id)?.instance;
        self.by_index.remove(&removed.index);
        Some(removed)
    }

    /// Makes the oldest instance the leader where that is the rule. Whether the leader changed.
    pub(crate) fn elect_oldest(&mut self) -> bool {
        match self.election {
            Election::Manual => false,
            Election::Oldest => {
                let oldest = self.by_index.values().next().map(|instance| instance.id.clone());
                let changed = oldest != self.leader;
                self.leader = oldest;
                changed
            }
        }
    }

    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.by_id.len(), self.by_index.len(), "both orders hold the same instances");
        for (index, instance) in &self.by_index {
            assert_eq!(*index, instance.index, "an instance stands under its own index");
            let kept = self.by_id.get(&instance.id);
            assert!(kept.is_some_and(|kept| Arc::ptr_eq(&kept.instance, instance)));
            assert!(kept.is_some_and(|kept| kept.touched >= instance.index));
        }
        assert!(self.had_instances || self.by_id.is_empty());
    }
}
