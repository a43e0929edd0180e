//! The one place that decides what is served: takes news of routes and backends, publishes the table
//! and the backends' lists, reports events, saves. Requests never wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kit_ids::RouteId;
use kit_tasks::Tasks;
use router_api::{Event, Route};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use self::fleets::Fleets;
use self::targets::Targets;
use crate::disk::Saved;
use crate::events::Hub;
use crate::source::{Instances, RouteUpdate};
use crate::tcp::TcpRoutes;
use crate::worker::{Shared, ticks};

mod fleets;
mod follow;
mod save;
mod targets;

pub(crate) use self::fleets::Members;
pub(crate) use self::follow::{follow_routes, follow_service};
pub(crate) use self::save::{save, save_page};

/// News that wait to be taken. Senders wait when it is full: sources are slower, not lossy.
pub(crate) const NEWS: usize = 256;

/// How often idle backend connections are looked at.
const TRIM: Duration = Duration::from_secs(15);

/// What happened outside.
#[derive(Debug)]
pub(crate) enum News {
    /// The route source's stream began or ended.
    RouteSource(Result<(), String>),
    Routes(RouteUpdate),
    Instances(String, Instances),
}

/// What the status page tells.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Facts {
    pub(crate) routes: usize,
    pub(crate) services: usize,
    pub(crate) backends: usize,
    /// `disk` until the controller's list was read once.
    pub(crate) routes_from: &'static str,
    /// Why the route stream does not run now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route_source_error: Option<String>,
    /// Routes that are not served, or not as they were meant.
    pub(crate) problems: Vec<String>,
}

/// What the core works with.
#[derive(Debug)]
pub(crate) struct Core {
    shared: Arc<Shared>,
    hub: Arc<Hub>,
    tcp: TcpRoutes,
    facts: Arc<Mutex<Facts>>,
    saved_routes: watch::Sender<Arc<Vec<Route>>>,
    saved_backends: watch::Sender<Arc<BTreeMap<String, Instances>>>,
    /// All routes that should be served.
    wanted: BTreeMap<RouteId, Arc<Route>>,
    /// Those that are.
    served: BTreeMap<RouteId, Arc<Route>>,
    targets: Targets,
    fleets: Fleets,
}

/// The core's outputs.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) shared: Arc<Shared>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) tcp: TcpRoutes,
    pub(crate) facts: Arc<Mutex<Facts>>,
    pub(crate) saved_routes: watch::Sender<Arc<Vec<Route>>>,
    pub(crate) saved_backends: watch::Sender<Arc<BTreeMap<String, Instances>>>,
}

impl Core {
    /// A core that serves what the disk held, before anybody was asked.
    pub(crate) fn new(outputs: Outputs, members: Members, saved: Saved) -> Self {
        let Outputs { shared, hub, tcp, facts, saved_routes, saved_backends } = outputs;
        let fleets = Fleets::new(members, hub.clone(), saved.backends);
        let mut core = Self {
            shared,
            hub,
            tcp,
            facts,
            saved_routes,
            saved_backends,
            wanted: by_id(saved.routes),
            served: BTreeMap::new(),
            targets: Targets::default(),
            fleets,
        };
        core.facts().routes_from = "disk";
        core.publish();
        core
    }

    /// Takes news until the router stops.
    pub(crate) async fn run(mut self, mut news: mpsc::Receiver<News>, tasks: Tasks) {
        let drained = self.fleets.drained();
        let mut trim = tokio::time::interval(TRIM);
        loop {
            tokio::select! {
                () = tasks.stopping() => return,
                () = drained.notified() => self.fleets.forget_drained(),
                _ = trim.tick() => {
                    self.fleets.trim(self.shared.tick(), ticks(self.shared.limits.idle_backend));
                }
                Some(first) = news.recv() => {
                    // One table for everything that waits: a burst of changes costs one build.
                    let mut changed = self.take(first);
                    while let Ok(next) = news.try_recv() {
                        changed |= self.take(next);
                    }
                    if changed {
                        self.publish();
                        self.save_routes();
                    }
                    self.count_backends();
                }
            }
        }
    }

    /// Whether routes changed.
    fn take(&mut self, news: News) -> bool {
        match news {
            News::Routes(update) => self.take_routes(update),
            News::Instances(service, instances) => {
                if self.fleets.listed(&service, instances) {
                    self.saved_backends.send_replace(Arc::new(self.fleets.known()));
                }
                false
            }
            News::RouteSource(state) => {
                self.facts().route_source_error = state.err();
                false
            }
        }
    }

    fn take_routes(&mut self, update: RouteUpdate) -> bool {
        match update {
            RouteUpdate::All(routes) => {
                self.facts().routes_from = "controller";
                let routes = by_id(routes);
                let changed = routes != self.wanted;
                self.wanted = routes;
                changed
            }
            RouteUpdate::Set(route) => {
                let Some(id) = route.id.clone() else { return false };
                // The stream was opened before the list was read: it may repeat what is older.
                let known = self.wanted.get(&id);
                if known.is_some_and(|known| known.updated_at > route.updated_at) {
                    return false;
                }
                let route: Arc<Route> = Arc::from(route);
                self.wanted.insert(id, route.clone()).as_ref() != Some(&route)
            }
            RouteUpdate::Remove(id) => self.wanted.remove(&id).is_some(),
        }
    }

    /// Builds the table, publishes it, and follows with everything that depends on it.
    fn publish(&mut self) {
        let reported = self.wanted.values().filter(|route| route.drain_backends);
        let reported: BTreeSet<&str> = reported.map(|route| route.service.as_str()).collect();
        self.fleets.route_to(self.wanted.values().map(|route| route.service.as_str()), &reported);
        let built = self.targets.build(self.wanted.values(), |name| self.fleets.service(name));
        self.shared.tables.publish(&Arc::new(built.table));
        self.fleets.leave_unrouted();
        self.tcp.listen_on(&built.tcp_ports);
        let unserved = |id: &RouteId| built.unserved.contains(id);
        let served = self.wanted.iter().filter(|(id, _)| !unserved(id));
        let served = served.map(|(id, route)| (id.clone(), route.clone())).collect();
        self.report(&served);
        self.served = served;
        let mut facts = self.facts();
        for problem in built.problems.iter().filter(|problem| !facts.problems.contains(problem)) {
            tracing::warn!("{problem}");
        }
        facts.routes = self.served.len();
        facts.problems = built.problems;
        drop(facts);
        self.count_backends();
    }

    /// Tells the API's clients what is served from now on and what is not.
    fn report(&self, served: &BTreeMap<RouteId, Arc<Route>>) {
        let difference = routes::diff(&self.served, served);
        for id in difference.removed {
            let route = Box::new(self.served[id].without_certificate());
            self.hub.publish(Event::Remove(route));
        }
        for id in difference.added.into_iter().chain(difference.changed) {
            let route = Box::new(served[id].without_certificate());
            self.hub.publish(Event::Set(route));
        }
    }

    fn save_routes(&self) {
        let routes = self.wanted.values().map(|route| Route::clone(route)).collect();
        self.saved_routes.send_replace(Arc::new(routes));
    }

    fn count_backends(&self) {
        let (services, backends) = self.fleets.count();
        let mut facts = self.facts();
        (facts.services, facts.backends) = (services, backends);
    }

    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn by_id(routes: Vec<Route>) -> BTreeMap<RouteId, Arc<Route>> {
    let with_id = |route: Route| Some((route.id.clone()?, Arc::new(route)));
    routes.into_iter().filter_map(with_id).collect()
}
