//! What every router says of the backends that it sends requests to, so that a job is stopped only when
//! its last request has ended. A router that is not heard of holds nothing up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kit_backoff::Backoff;
use kit_ids::JobId;
use kit_tasks::Tasks;
use router_api::{Backend, Event};
use tokio::sync::watch;

/// The service every router registers its API in.
const SERVICE: &str = "router-api";
const EVENTS: &str = "/events?types=backend-up,backend-down,backend-drained";

/// By a router's address, the backends that it has not done with.
type Busy = BTreeMap<String, BTreeSet<Backend>>;

/// All routers of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Routers {
    busy: Arc<watch::Sender<Busy>>,
}

impl Routers {
    /// Follows all routers until `tasks` are stopped.
    pub(crate) fn follow(discoverd: &discoverd_api::Client, tasks: &Tasks) -> Self {
        let routers = Self { busy: Arc::new(watch::Sender::new(Busy::new())) };
        let (discoverd, node) = (discoverd.clone(), tasks.child("routers"));
        let all = routers.clone();
        tasks.spawn_until_stop("routers", async move {
            all.follow_all(&discoverd, &node).await;
        });
        routers
    }

    /// Waits until no router has a request of the job's, but not for longer than this.
    pub(crate) async fn drained(&self, job: &JobId, at_most: Duration) -> bool {
        let mut busy = self.busy.subscribe();
        let id = job.to_string();
        let is_free = |busy: &Busy| !busy.values().flatten().any(|backend| backend.job_id == id);
        tokio::time::timeout(at_most, busy.wait_for(is_free)).await.is_ok()
    }

    async fn follow_all(&self, discoverd: &discoverd_api::Client, node: &Tasks) {
        let mut watch = discoverd.watch(SERVICE);
        let mut followed = BTreeMap::<String, Tasks>::new();
        loop {
            watch.next().await;
            let there: BTreeSet<String> =
                watch.instances().values().map(|instance| instance.addr.clone()).collect();
            followed.retain(|addr, tasks| {
                let stays = there.contains(addr);
                if !stays {
                    tasks.stop();
                    self.forget(addr);
                }
                stays
            });
            for addr in there {
                followed.entry(addr.clone()).or_insert_with(|| {
                    let (tasks, all) = (node.child("router"), self.clone());
                    tasks.spawn_until_stop("events", async move { all.follow_one(&addr).await });
                    tasks
                });
            }
        }
    }

    async fn follow_one(&self, addr: &str) {
        let mut pause =
            Backoff::new(Duration::from_millis(100), Duration::from_secs(5), rand::random());
        loop {
            if let Err(error) = self.follow_once(addr, &mut pause).await {
                tracing::debug!(router = addr, %error, "router not followed, trying again");
            }
            // What it says after it came back is the truth; until then it holds nothing up.
            self.forget(addr);
            tokio::time::sleep(pause.next_delay()).await;
        }
    }

    async fn follow_once(
        &self,
        addr: &str,
        pause: &mut Backoff,
    ) -> Result<(), kit_http::ClientError> {
        let client = kit_http::Client::new(&format!("http://{addr}"))?;
        let mut events = client.events(EVENTS, None).await?;
        pause.reset();
        while let Some(Ok(event)) = events.next_json::<Event>().await {
            self.note(addr, event);
        }
        Ok(())
    }

    /// A backend is done with when it has drained. One that goes down goes on to drain.
    fn note(&self, addr: &str, event: Event) {
        self.busy.send_modify(|busy| {
            let backends = busy.entry(addr.to_owned()).or_default();
            match event {
                Event::BackendUp(backend) => drop(backends.insert(backend)),
                Event::BackendDrained(backend) => drop(backends.remove(&backend)),
                Event::BackendDown(_) | Event::Set(_) | Event::Remove(_) => {}
            }
        });
    }

    fn forget(&self, addr: &str) {
        self.busy.send_modify(|busy| drop(busy.remove(addr)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(job: &str) -> Backend {
        Backend {
            service: "demo-web".to_owned(),
            addr: "10.0.0.1:80".to_owned(),
            app: "demo".to_owned(),
            job_id: job.to_owned(),
        }
    }

    #[tokio::test]
    async fn a_job_is_free_when_every_router_is_done_with_it() {
        let routers = Routers { busy: Arc::new(watch::Sender::new(Busy::new())) };
        let id = "host0-0f0e0d0c-1111-4222-8333-abcdefabcdef";
        let job: JobId = id.parse().unwrap();
        let at_once = Duration::ZERO;
        assert!(routers.drained(&job, at_once).await);
        routers.note("a", Event::BackendUp(backend(id)));
        routers.note("b", Event::BackendUp(backend(id)));
        routers.note("a", Event::BackendDown(backend(id)));
        routers.note("a", Event::BackendDrained(backend(id)));
        assert!(!routers.drained(&job, at_once).await);
        let waits = routers.drained(&job, Duration::from_secs(60));
        let drains = async { routers.note("b", Event::BackendDrained(backend(id))) };
        assert!(tokio::join!(waits, drains).0);
        routers.note("c", Event::BackendUp(backend(id)));
        routers.forget("c");
        assert!(routers.drained(&job, at_once).await);
    }
}
