//! The replicated state: services by name, and how each command changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::service::{Registered, Service};
use crate::{
    Answer, Command, Election, Event, Id, Instance, Lapsed, LogIndex, Meta, Name, Refusal,
    Registration,
};

/// All services. The same log gives the same registry everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    pub(crate) services: BTreeMap<Name, Service>,
    pub(crate) applied: LogIndex,
}

type Outcome = (Result<Answer, Refusal>, Vec<Event>);

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the entry at `at`. A refused command changes nothing but the position.
    pub fn apply(&mut self, command: Command, at: LogIndex) -> Outcome {
        self.advance(at);
        let mut events = Vec::new();
        let result = match command {
            Command::AddService { service, election } => self.add_service(service, election),
            Command::RemoveService { service } => self.remove_service(service, &mut events),
            Command::SetMeta { service, data, expected, leader } => {
                let meta = Meta { data, index: at };
                self.set_meta(service, meta, expected, leader, &mut events)
            }
            Command::SetLeader { service, leader } => {
                self.set_leader(&service, leader, &mut events)
            }
            Command::AddInstance { service, id, registration } => {
                self.add_instance(service, id, registration, &mut events)
            }
            Command::RemoveInstance { service, id } => {
                self.remove_instance(service, &id, &mut events)
            }
            Command::Expire { lapsed } => self.expire(lapsed, &mut events),
        };
        (result, events)
    }

    /// An entry of the log that is no command was applied.
    pub fn advance(&mut self, at: LogIndex) {
        debug_assert!(at > self.applied, "entry {at} after {}", self.applied);
        self.applied = at;
    }

    /// The last entry that was applied.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The names of all services.
    pub fn services(&self) -> impl Iterator<Item = &Name> {
        self.services.keys()
    }

    /// How a service gets its leader; nothing when there is no such service.
    pub fn election(&self, service: &str) -> Option<Election> {
        self.services.get(service).map(|found| found.election)
    }

    /// The instances of a service, oldest first; none for an unknown service.
    pub fn instances(&self, service: &str) -> impl Iterator<Item = &Arc<Instance>> {
        self.services.get(service).into_iter().flat_map(Service::instances)
    }

    /// One instance.
    pub fn instance(&self, service: &str, id: &str) -> Option<&Arc<Instance>> {
        self.services.get(service)?.get(id).map(|kept| &kept.instance)
    }

    /// The last write that named an instance.
    pub fn touched(&self, service: &str, id: &str) -> Option<LogIndex> {
        self.services.get(service)?.get(id).map(|kept| kept.touched)
    }

    /// All instances of all services, each with the last write that named it.
    pub(crate) fn all_touched(&self) -> Vec<Lapsed> {
        let of_service = |(name, found): (&Name, &Service)| {
            let touched = |instance: &Arc<Instance>| {
                let kept = found.get(instance.id.as_str());
                let touched = kept.map_or(instance.index, |kept| kept.touched);
                Lapsed { service: name.clone(), id: instance.id.clone(), touched }
            };
            found.instances().map(touched).collect::<Vec<_>>()
        };
        self.services.iter().flat_map(of_service).collect()
    }

    /// The instance that leads; nothing when there is none or it is away.
    pub fn leader(&self, service: &str) -> Option<&Arc<Instance>> {
        self.services.get(service)?.leader_instance()
    }

    /// A service's metadata.
    pub fn meta(&self, service: &str) -> Option<&Meta> {
        self.services.get(service)?.meta.as_ref()
    }

    /// What a new subscriber is told first: instances oldest first, the leader, the metadata.
    pub fn picture(&self, service: &str) -> Vec<Event> {
        let Some((name, found)) = self.services.get_key_value(service) else { return Vec::new() };
        let ups = found.instances().map(|instance| Event::Up(name.clone(), Arc::clone(instance)));
        let leader = found.leader_instance().cloned();
        let leader = leader.map(|instance| Event::Leader(name.clone(), Some(instance)));
        let meta = found.meta.clone().map(|meta| Event::Meta(name.clone(), meta));
        ups.chain(leader).chain(meta).collect()
    }

    /// Panics when the state contradicts itself; for tests and simulations.
    pub fn check_invariants(&self) {
        for service in self.services.values() {
            service.check_invariants();
            assert!(service.instances().all(|instance| instance.index <= self.applied));
            assert!(service.meta.as_ref().is_none_or(|meta| meta.index <= self.applied));
        }
    }

    fn add_service(&mut self, service: Name, election: Election) -> Result<Answer, Refusal> {
        if self.services.contains_key(&service) {
            return Err(Refusal::ServiceExists(service));
        }
        self.services.insert(service, Service::new(election));
        Ok(Answer::Done)
    }

    fn remove_service(
        &mut self,
        service: Name,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        let Some(removed) = self.services.remove(&service) else {
            return Err(Refusal::ServiceNotFound(service));
        };
        events
            .extend(removed.instances().map(|gone| Event::Down(service.clone(), Arc::clone(gone))));
        Ok(Answer::Done)
    }

    fn set_meta(
        &mut self,
        service: Name,
        meta: Meta,
        expected: LogIndex,
        leader: Option<Id>,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        let Some(found) = self.services.get_mut(&service) else {
            return Err(Refusal::ServiceNotFound(service));
        };
        match &found.meta {
            Some(_) if expected == LogIndex::ZERO => return Err(Refusal::MetaExists(service)),
            Some(stored) if stored.index != expected => return Err(Refusal::MetaChanged(service)),
            None if expected != LogIndex::ZERO => return Err(Refusal::MetaNotFound(service)),
            Some(_) | None => {}
        }
        let index = meta.index;
        found.meta = Some(meta.clone());
        events.push(Event::Meta(service.clone(), meta));
        if let Some(leader) = leader {
            lead(&service, found, leader, events);
        }
        Ok(Answer::MetaStored(index))
    }

    fn set_leader(
        &mut self,
        service: &Name,
        leader: Id,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        match self.services.get_mut(service) {
            Some(found) if found.election == Election::Manual => {
                lead(service, found, leader, events);
                Ok(Answer::Done)
            }
            Some(_) | None => Err(Refusal::NotManual),
        }
    }

    fn add_instance(
        &mut self,
        service: Name,
        id: Id,
        registration: Registration,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        let at = self.applied;
        let Some(found) = self.services.get_mut(&service) else {
            return Err(Refusal::ServiceNotFound(service));
        };
        match found.register(id, registration, at) {
            Registered::New(instance) => events.push(Event::Up(service.clone(), instance)),
            Registered::Changed(instance) => events.push(Event::Updated(service.clone(), instance)),
            Registered::Same => return Ok(Answer::Done),
        }
        elect(&service, found, events);
        Ok(Answer::Done)
    }

    fn remove_instance(
        &mut self,
        service: Name,
        id: &Id,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        let Some(found) = self.services.get_mut(&service).filter(|found| found.had_instances)
        else {
            return Err(Refusal::ServiceNotFound(service));
        };
        if let Some(gone) = found.remove(id.as_str()) {
            events.push(Event::Down(service.clone(), gone));
            elect(&service, found, events);
        }
        Ok(Answer::Done)
    }

    /// All downs first, of whatever service, then the leaders that change by them.
    fn expire(&mut self, lapsed: Vec<Lapsed>, events: &mut Vec<Event>) -> Result<Answer, Refusal> {
        let mut shrunk = BTreeSet::new();
        for Lapsed { service, id, touched } in lapsed {
            let Some(found) = self.services.get_mut(&service) else { continue };
            if found.get(id.as_str()).is_none_or(|kept| kept.touched != touched) {
                continue;
            }
            if let Some(gone) = found.remove(id.as_str()) {
                events.push(Event::Down(service.clone(), gone));
                shrunk.insert(service);
            }
        }
        for service in shrunk {
            if let Some(found) = self.services.get_mut(&service) {
                elect(&service, found, events);
            }
        }
        Ok(Answer::Done)
    }
}

/// Sets the leader by hand. Watchers hear of it when that instance is there, changed or not.
fn lead(service: &Name, found: &mut Service, leader: Id, events: &mut Vec<Event>) {
    found.leader = Some(leader);
    if let Some(instance) = found.leader_instance() {
        events.push(Event::Leader(service.clone(), Some(Arc::clone(instance))));
    }
}

/// Chooses the leader anew after a change of instances.
fn elect(service: &Name, found: &mut Service, events: &mut Vec<Event>) {
    if found.elect_oldest() {
        events.push(Event::Leader(service.clone(), found.leader_instance().cloned()));
    }
}
