//! Keeps one instance registered: a PUT every few seconds, the DELETE at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kit_http::ErrorCode;
use kit_tasks::Tasks;
use rand::Rng as _;
use tokio::sync::watch;

use crate::{Client, DiscoverdError, Instance, InstanceId, ServiceConfig};

/// The longest time between two heartbeats; up to [`JITTER`] is taken off at random.
const INTERVAL: Duration = Duration::from_secs(5);
const JITTER: Duration = Duration::from_secs(2);
/// The shortest pause after a failure; up to as much again is added at random.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
/// How long the last DELETE may take: the instance expires anyway.
const GOODBYE: Duration = Duration::from_secs(3);

/// A registration that is kept alive. Dropping the handle keeps it alive too: it ends with
/// [`close`](Self::close) or with the tasks it was started on.
#[derive(Debug)]
pub struct Heartbeat {
    tasks: Tasks,
    id: InstanceId,
    wanted: watch::Sender<Instance>,
    registered: watch::Receiver<bool>,
    /// Whether the registration outlives the task.
    stays: Arc<AtomicBool>,
}

impl Heartbeat {
    /// Starts the task. With `create`, a missing service is added.
    pub(crate) fn start(
        client: Client,
        tasks: &Tasks,
        service: &str,
        instance: Instance,
        create: Option<ServiceConfig>,
    ) -> Self {
        let tasks = tasks.child(&format!("heartbeat-{service}"));
        let id = instance.id.clone();
        let (wanted, changes) = watch::channel(instance);
        let (done, registered) = watch::channel(create.is_none());
        let service = service.to_owned();
        let (stays, own) = (Arc::<AtomicBool>::default(), tasks.clone());
        let beat =
            Beat { client, service, create, changes, done, stays: stays.clone(), tasks: own };
        tasks.spawn("beat", beat.run());
        Self { tasks, id, wanted, registered, stays }
    }

    /// The instance's id.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Waits until discoverd accepted the registration once.
    pub async fn registered(&self) {
        let mut registered = self.registered.clone();
        // The task's end is the only error; then nobody will register any more.
        if registered.wait_for(|done| *done).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Changes what the instance says about itself; watchers see an update.
    pub fn set_meta(&self, meta: BTreeMap<String, String>) {
        self.wanted.send_if_modified(|instance| {
            let differs = instance.meta != meta;
            instance.meta = meta;
            differs
        });
    }

    /// Ends the heartbeats and leaves the registration to whoever goes on with it: nobody hears of that.
    pub async fn hand_over(self) {
        self.stays.store(true, Ordering::Relaxed);
        self.tasks.shutdown(GOODBYE * 2).await;
    }

    /// Ends the registration and waits until discoverd knows.
    pub async fn close(self) {
        self.tasks.shutdown(GOODBYE * 2).await;
    }
}

/// The task's side.
struct Beat {
    client: Client,
    service: String,
    create: Option<ServiceConfig>,
    changes: watch::Receiver<Instance>,
    done: watch::Sender<bool>,
    stays: Arc<AtomicBool>,
    tasks: Tasks,
}

impl Beat {
    async fn run(mut self) {
        loop {
            let instance = self.changes.borrow_and_update().clone();
            let beat = tokio::select! {
                () = self.tasks.stopping() => break,
                beat = self.beat(&instance) => beat,
            };
            let pause = self.noted(beat);
            tokio::select! {
                () = self.tasks.stopping() => break,
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.changes.changed() => {}
            }
        }
        if !self.stays.load(Ordering::Relaxed) {
            self.goodbye().await;
        }
    }

    async fn beat(&self, instance: &Instance) -> Result<(), DiscoverdError> {
        match (self.client.put_instance(&self.service, instance).await, self.create) {
            (Err(error), Some(config)) if error.code() == Some(ErrorCode::ObjectNotFound) => {
                self.client.ensure_service(&self.service, config).await?;
                self.client.put_instance(&self.service, instance).await
            }
            (result, _) => result,
        }
    }

    /// Logs a change between working and failing, and says how long to wait.
    fn noted(&self, beat: Result<(), DiscoverdError>) -> Duration {
        let mut random = rand::rng();
        match beat {
            Ok(()) => {
                self.done.send_replace(true);
                INTERVAL - random.random_range(Duration::ZERO..JITTER)
            }
            Err(error) => {
                tracing::warn!(service = %self.service, %error, "registration failed, trying again");
                AFTER_FAILURE + random.random_range(Duration::ZERO..AFTER_FAILURE)
            }
        }
    }

    async fn goodbye(&self) {
        let id = self.changes.borrow().id.clone();
        let removal = self.client.remove_instance(&self.service, &id);
        match tokio::time::timeout(GOODBYE, removal).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(service = %self.service, %error, "instance stays registered until it expires");
            }
            Err(_) => {
                tracing::warn!(service = %self.service, "instance stays registered until it expires");
            }
        }
    }
}
