//! Backends from discoverd, one watch per service, and the router's own registration there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use discoverd_api::{Client, EventKind, Instance as Registered, InstanceId, ServiceConfig};
use kit_tasks::Tasks;
use tokio::sync::mpsc;

use super::{BackendSource, Following, Instance, Instances};

/// Discoverd as a source of backends.
#[derive(Clone, Debug)]
pub struct Discovery {
    client: Client,
}

impl Discovery {
    /// Watches through this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The watch connects again by itself and never ends; it only stops with its reader.
    async fn watch(&self, service: &str, updates: &mpsc::Sender<Instances>) {
        let mut watch = self.client.watch(service);
        let (mut known, mut leader, mut complete) = (false, None, false);
        loop {
            let event = watch.next().await;
            match event.kind {
                EventKind::Up | EventKind::Update | EventKind::Down => {}
                EventKind::Leader => leader = event.instance.map(|instance| instance.addr),
                EventKind::Current => known = true,
                EventKind::ServiceMeta | EventKind::Unknown => continue,
            }
            // The first picture is told whole; after a reconnection the differences come one by one
            // and each is true already.
            complete |= known;
            if complete {
                let state =
                    Instances { backends: backends(watch.instances()), leader: leader.clone() };
                if updates.send(state).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl BackendSource for Discovery {
    fn follow(&self, service: String, updates: mpsc::Sender<Instances>) -> Following<'_> {
        Box::pin(async move {
            self.watch(&service, &updates).await;
            Ok(())
        })
    }
}

/// In the order of registration.
fn backends(instances: &BTreeMap<InstanceId, Registered>) -> Vec<Instance> {
    let mut sorted: Vec<&Registered> = instances.values().collect();
    sorted.sort_by_key(|instance| instance.index);
    let meta = |one: &Registered, key: &str| one.meta.get(key).cloned().unwrap_or_default();
    let instance = |one: &Registered| Instance {
        addr: one.addr.clone(),
        app: meta(one, "FLYNN_APP_NAME"),
        job: meta(one, "FLYNN_JOB_ID"),
    };
    sorted.into_iter().map(instance).collect()
}

/// How a router makes itself known.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Where to register.
    pub client: Client,
    /// The address others reach this router at.
    pub external_ip: std::net::IpAddr,
    /// What the instances say about themselves: app, release and job.
    pub meta: BTreeMap<String, String>,
}

impl Registration {
    /// Keeps `router-api` and, with plain HTTP, `router-http` registered until the tasks are stopped.
    pub(crate) fn announce(&self, tasks: &Tasks, api: SocketAddr, http: Option<SocketAddr>) {
        self.register(tasks, "router-api", "http", api);
        if let Some(http) = http {
            self.register(tasks, "router-http", "http", http);
        }
    }

    fn register(&self, tasks: &Tasks, service: &str, proto: &str, addr: SocketAddr) {
        let addr = SocketAddr::new(self.external_ip, addr.port()).to_string();
        let mut instance = Registered::new(proto, &addr);
        instance.meta.clone_from(&self.meta);
        // Dropping the handle keeps the registration alive; it ends with the tasks.
        drop(self.client.announce(tasks, service, ServiceConfig::default(), instance));
    }
}
