//! The backends of all routed services: followed while a route leads to the service, drained when
//! they leave, forgotten when their last request has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kit_tasks::Tasks;
use router_api::Event;
use routes::{Fleet, Step};
use tokio::sync::{Notify, mpsc};

use super::{News, follow_service};
use crate::config::Limits;
use crate::events::Hub;
use crate::pool::{Pool, Tick};
use crate::service::{Backend, Backends, Service};
use crate::source::{BackendSource, Instances};
use crate::sticky::CookieKey;

/// What backends are made with and found by.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) source: Arc<dyn BackendSource>,
    pub(crate) news: mpsc::Sender<News>,
    pub(crate) tasks: Tasks,
    pub(crate) cookie_key: CookieKey,
    pub(crate) workers: usize,
    pub(crate) limits: Limits,
}

/// All services.
#[derive(Debug)]
pub(super) struct Fleets {
    members: Members,
    hub: Arc<Hub>,
    drained: Arc<Notify>,
    services: BTreeMap<String, Entry>,
    /// The last backends of services as the disk knew them, until the service is routed to.
    saved: BTreeMap<String, Instances>,
}

#[derive(Debug)]
struct Entry {
    service: Arc<Service>,
    fleet: Fleet,
    /// Those that are up and those that drain.
    backends: BTreeMap<routes::Backend, Arc<Backend>>,
    listed: Instances,
    /// Runs while a route leads here.
    follower: Option<Tasks>,
    routed: bool,
    /// Whether a route asks for backend events.
    reported: bool,
}

impl Fleets {
    pub(super) fn new(members: Members, hub: Arc<Hub>, saved: BTreeMap<String, Instances>) -> Self {
        let drained = Arc::new(Notify::new());
        Self { members, hub, drained, services: BTreeMap::new(), saved }
    }

    /// Woken when some backend has drained.
    pub(super) fn drained(&self) -> Arc<Notify> {
        self.drained.clone()
    }

    /// These services have routes now; new ones start with what the disk knew of them.
    pub(super) fn route_to<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        reported: &BTreeSet<&str>,
    ) {
        for entry in self.services.values_mut() {
            entry.routed = false;
        }
        let names: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
        for name in names {
            let entry = self.services.entry(name.to_owned()).or_insert_with(|| Entry::new(name));
            entry.routed = true;
            entry.report(reported.contains(name), &self.hub);
            if entry.follower.is_some() {
                continue;
            }
            entry.follower = Some(follow_service(&self.members, name));
            if let Some(saved) = self.saved.remove(name) {
                entry.list(saved, &self.members, &self.drained, &self.hub);
            }
        }
    }

    /// The service routes lead to.
    pub(super) fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.services.get(name).map(|entry| entry.service.clone())
    }

    /// Lets go of services without routes. Called after the table without them was published.
    pub(super) fn leave_unrouted(&mut self) {
        let (members, drained, hub) = (&self.members, &self.drained, &self.hub);
        self.services.retain(|_, entry| {
            if !entry.routed {
                if let Some(follower) = entry.follower.take() {
                    follower.stop();
                }
                entry.list(Instances::default(), members, drained, hub);
            }
            entry.routed || !entry.backends.is_empty()
        });
    }

    /// The source's state of a service; whether that is news.
    pub(super) fn listed(&mut self, name: &str, instances: Instances) -> bool {
        let Some(entry) = self.services.get_mut(name).filter(|entry| entry.routed) else {
            return false;
        };
        if entry.listed == instances {
            return false;
        }
        entry.list(instances, &self.members, &self.drained, &self.hub);
        true
    }

    /// Forgets backends whose last request has ended.
    pub(super) fn forget_drained(&mut self) {
        let hub = &self.hub;
        self.services.retain(|_, entry| {
            entry.forget_drained(hub);
            entry.routed || !entry.backends.is_empty()
        });
    }

    /// Closes idle connections that are too old.
    pub(super) fn trim(&self, now: Tick, max_age: u64) {
        for backend in self.services.values().flat_map(|entry| entry.backends.values()) {
            backend.pool.trim(now, max_age);
        }
    }

    /// What is to be saved.
    pub(super) fn known(&self) -> BTreeMap<String, Instances> {
        let routed = self.services.iter().filter(|(_, entry)| entry.routed);
        routed.map(|(name, entry)| (name.clone(), entry.listed.clone())).collect()
    }

    /// How many routed services and backends there are.
    pub(super) fn count(&self) -> (usize, usize) {
        let routed = self.services.values().filter(|entry| entry.routed);
        routed.fold((0, 0), |(services, backends), entry| {
            (services + 1, backends + entry.fleet.up().count())
        })
    }
}

impl Entry {
    fn new(name: &str) -> Self {
        Self {
            service: Arc::new(Service::new(name)),
            fleet: Fleet::default(),
            backends: BTreeMap::new(),
            listed: Instances::default(),
            follower: None,
            routed: true,
            reported: false,
        }
    }

    /// Goes to a new state: first the list requests choose from, then the drains, then the events.
    fn list(&mut self, instances: Instances, members: &Members, drained: &Arc<Notify>, hub: &Hub) {
        let wanted: Vec<routes::Backend> = instances.backends.iter().map(identity).collect();
        let steps = self.fleet.listed(&wanted);
        for step in &steps {
            match step {
                Step::Start(identity) => {
                    let backend = make(&self.service.name, identity, members, drained);
                    self.backends.insert(identity.clone(), backend);
                }
                Step::Resume(identity) => {
                    if let Some(backend) = self.backends.get(identity) {
                        backend.in_flight.resume();
                    }
                }
                Step::Drain(_) | Step::Forget(_) => {}
            }
        }
        self.service.set_backends(self.choices(&wanted, instances.leader.as_deref()));
        self.listed = instances;
        for step in steps {
            match step {
                Step::Start(backend) | Step::Resume(backend) => {
                    self.tell(hub, &backend, Event::BackendUp);
                }
                Step::Drain(backend) => {
                    self.tell(hub, &backend, Event::BackendDown);
                    if self.backends.get(&backend).is_some_and(|b| b.in_flight.drain()) {
                        drained.notify_one();
                    }
                }
                Step::Forget(_) => {}
            }
        }
    }

    fn choices(&self, wanted: &[routes::Backend], leader: Option<&str>) -> Backends {
        let mut all: Vec<Arc<Backend>> = Vec::with_capacity(wanted.len());
        for identity in wanted {
            if let Some(backend) = self.backends.get(identity)
                && !all.iter().any(|known| known.identity == *identity)
            {
                all.push(backend.clone());
            }
        }
        let leader = all.iter().position(|backend| Some(backend.identity.addr.as_str()) == leader);
        Backends { all, leader }
    }

    fn forget_drained(&mut self, hub: &Hub) {
        let done: Vec<routes::Backend> = self
            .fleet
            .draining()
            .filter(|identity| {
                self.backends.get(*identity).is_none_or(|b| b.in_flight.count() == 0)
            })
            .cloned()
            .collect();
        for identity in done {
            if let Some(Step::Forget(backend)) = self.fleet.drained(&identity) {
                self.backends.remove(&backend);
                self.tell(hub, &backend, Event::BackendDrained);
            }
        }
    }

    /// From now on backend events are wanted, or not. Those who listen learn what is up.
    fn report(&mut self, reported: bool, hub: &Hub) {
        if reported && !self.reported {
            self.reported = true;
            for backend in self.fleet.up() {
                self.tell(hub, backend, Event::BackendUp);
            }
        } else if !reported && self.reported {
            // A service nobody reports on must not be waited for.
            for backend in self.fleet.up() {
                self.tell(hub, backend, Event::BackendDown);
            }
            self.reported = false;
        }
    }

    fn tell(
        &self,
        hub: &Hub,
        backend: &routes::Backend,
        event: impl Fn(router_api::Backend) -> Event,
    ) {
        if self.reported {
            hub.publish(event(router_api::Backend {
                service: self.service.name.clone(),
                addr: backend.addr.clone(),
                app: backend.app.clone(),
                job_id: backend.job.clone(),
            }));
        }
    }
}

fn identity(instance: &crate::source::Instance) -> routes::Backend {
    let crate::source::Instance { addr, app, job } = instance.clone();
    routes::Backend { addr, app, job }
}

fn make(
    service: &str,
    identity: &routes::Backend,
    members: &Members,
    drained: &Arc<Notify>,
) -> Arc<Backend> {
    let token = members.cookie_key.token(service, &identity.addr);
    let pool = Pool::new(members.workers, members.limits.idle_per_backend);
    Arc::new(Backend::new(identity.clone(), token, pool, drained.clone()))
}
