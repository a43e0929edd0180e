//! The registry as plain data, to be written down and read back, and the news a replaced one brings.

use std::sync::Arc;

use crate::service::Service;
use crate::{Election, Event, Id, Instance, LogIndex, Meta, Name, Registry};

/// A registry at one position of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry that is in it.
    pub applied: LogIndex,
    /// By name.
    pub services: Vec<ServiceImage>,
}

/// One service of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceImage {
    /// Its name.
    pub name: Name,
    /// How it gets its leader.
    pub election: Election,
    /// Who leads, there or away.
    pub leader: Option<Id>,
    /// Its metadata.
    pub meta: Option<Meta>,
    /// Whether there ever was an instance.
    pub had_instances: bool,
    /// Oldest first.
    pub instances: Vec<InstanceImage>,
}

/// One instance of a [`ServiceImage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceImage {
    /// The instance.
    pub instance: Arc<Instance>,
    /// The last write that named it.
    pub touched: LogIndex,
}

impl Registry {
    /// The whole state. Instances are shared, not copied.
    pub fn snapshot(&self) -> Snapshot {
        let services = self.services.iter().map(|(name, service)| image(name, service)).collect();
        Snapshot { applied: self.applied, services }
    }

    /// The registry a snapshot was taken of.
    pub fn restore(snapshot: Snapshot) -> Self {
        let Snapshot { applied, services } = snapshot;
        let services = services.into_iter().map(|image| (image.name.clone(), service(image)));
        Self { services: services.collect(), applied }
    }

    /// Becomes the registry of a snapshot, and says what that changes for watchers.
    pub fn replace(&mut self, snapshot: Snapshot) -> Vec<Event> {
        let next = Self::restore(snapshot);
        let previous = std::mem::replace(self, next);
        let mut events = Vec::new();
        for (name, before) in &previous.services {
            news_of_departures(name, before, self.services.get(name), &mut events);
        }
        for (name, after) in &self.services {
            news_of_arrivals(name, previous.services.get(name), after, &mut events);
        }
        events
    }
}

fn image(name: &Name, service: &Service) -> ServiceImage {
    let instances = service.instances().map(|instance| {
        let touched = service.get(instance.id.as_str()).map_or(instance.index, |kept| kept.touched);
        InstanceImage { instance: Arc::clone(instance), touched }
    });
    ServiceImage {
        name: name.clone(),
        election: service.election,
        leader: service.leader.clone(),
        meta: service.meta.clone(),
        had_instances: service.had_instances,
        instances: instances.collect(),
    }
}

fn service(image: ServiceImage) -> Service {
    let mut service = Service::new(image.election);
    service.leader = image.leader;
    service.meta = image.meta;
    service.had_instances = image.had_instances;
    for InstanceImage { instance, touched } in image.instances {
        service.put(instance, touched);
    }
    service
}

/// A down for each instance that is no longer there, or is there as a new registration.
fn news_of_departures(
    name: &Name,
    before: &Service,
    after: Option<&Service>,
    events: &mut Vec<Event>,
) {
    for gone in before.instances() {
        let kept = after.and_then(|after| after.get(gone.id.as_str()));
        if kept.is_none_or(|kept| kept.instance.index != gone.index) {
            events.push(Event::Down(name.clone(), Arc::clone(gone)));
        }
    }
}

/// Ups and updates, then the leader if it is another one, then the metadata if it is other.
fn news_of_arrivals(
    name: &Name,
    before: Option<&Service>,
    after: &Service,
    events: &mut Vec<Event>,
) {
    for instance in after.instances() {
        let known = before.and_then(|before| before.get(instance.id.as_str()));
        match known.map(|kept| &kept.instance).filter(|known| known.index == instance.index) {
            None => events.push(Event::Up(name.clone(), Arc::clone(instance))),
            Some(known) if known.registration != instance.registration => {
                events.push(Event::Updated(name.clone(), Arc::clone(instance)));
            }
            Some(_) => {}
        }
    }
    let leads = |service: &Service| service.leader_instance().map(|leader| leader.index);
    let leader_changed = before.and_then(leads) != leads(after);
    // A leader that is merely away is no news: watchers learnt of it by its down.
    if leader_changed && (leads(after).is_some() || after.instances().len() == 0) {
        events.push(Event::Leader(name.clone(), after.leader_instance().cloned()));
    }
    if let Some(meta) = &after.meta
        && before.and_then(|before| before.meta.as_ref()) != Some(meta)
    {
        events.push(Event::Meta(name.clone(), meta.clone()));
    }
}
