//! Sinks: where the host sends its jobs' lines. Those put over HTTP are durable; those of the cluster's
//! log aggregators come and go with discoverd's word. Each has a task of its own, so a slow one holds up
//! nobody, and goes on where its receiver says it stopped.

mod aggregator;
mod aggregators;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host_api::{Sink, SinkInfo};
use kit_ids::HostId;
use kit_tasks::Tasks;
use tokio::sync::watch;

use crate::logs::{Logs, Position};
use crate::store::{SINKS, Store, StoreError};

use aggregator::Aggregator;
pub(crate) use aggregators::follow_aggregators;

/// How long a job's end waits for its last lines to leave. A receiver that takes longer gets them later.
const FLUSH: Duration = Duration::from_millis(500);
/// Sinks of one host: each is a connection and a reader of all files.
const MOST: usize = 64;

/// Why a sink is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    #[error("must be logaggregator: this host sends lines to log aggregators only")]
    Kind,
    #[error("needs an address: {{\"addr\":\"IP:PORT\"}}")]
    Config,
    #[error("there are {MOST} sinks already")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All sinks of the host.
#[derive(Debug)]
pub(crate) struct Sinks {
    host: HostId,
    store: Store,
    logs: Arc<Logs>,
    tasks: Tasks,
    running: Mutex<BTreeMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    info: SinkInfo,
    tasks: Tasks,
    progress: watch::Receiver<Progress>,
}

/// How far a sink is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Connected, and through with the past.
    is_live: bool,
    sent: Option<Position>,
}

impl Sinks {
    /// The sinks of an earlier daemon, started.
    pub(crate) fn open(
        host: HostId,
        store: Store,
        logs: Arc<Logs>,
        tasks: &Tasks,
    ) -> Result<Self, StoreError> {
        let stored: Vec<(String, SinkInfo)> = store.all(SINKS)?;
        let tasks = tasks.child("sinks");
        let sinks = Self { host, store, logs, tasks, running: Mutex::default() };
        for (id, info) in stored {
            if let Err(error) = sinks.start(&id, info) {
                tracing::warn!(sink = %id, %error, "sink of an earlier daemon not started");
            }
        }
        Ok(sinks)
    }

    /// All of them, as they are listed.
    pub(crate) fn list(&self) -> Vec<Sink> {
        let shown = |running: &Running| Sink {
            id: running.info.id.clone(),
            kind: running.info.kind.clone(),
            config: running.info.config.clone(),
            host_managed: running.info.host_managed,
        };
        self.lock().values().map(shown).collect()
    }

    /// Adds one. One that is there already stays as it is.
    pub(crate) async fn put(&self, id: &str, info: SinkInfo) -> Result<(), SinkError> {
        let durable = (!info.host_managed).then(|| info.clone());
        if self.start(id, info)?
            && let Some(info) = durable
        {
            self.store.put(SINKS, id, &info).await?;
        }
        Ok(())
    }

    /// Removes one; false when there is none.
    pub(crate) async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let Some(removed) = self.lock().remove(id) else { return Ok(false) };
        removed.tasks.stop();
        if !removed.info.host_managed {
            self.store.delete(SINKS, id).await?;
        }
        Ok(true)
    }

    /// Waits, not for long, until all lines written so far have left for every receiver that keeps up.
    pub(crate) async fn flushed(&self) {
        let newest = self.logs.newest();
        let waits: Vec<_> = self.lock().values().map(|running| running.progress.clone()).collect();
        let all = async {
            for mut progress in waits {
                // A sink that ends needs no wait.
                drop(progress.wait_for(|now| !now.is_live || now.sent >= newest).await);
            }
        };
        if tokio::time::timeout(FLUSH, all).await.is_err() {
            tracing::debug!("a job ended before all its lines had left");
        }
    }

    /// Starts one; false when there is one of that name.
    fn start(&self, id: &str, info: SinkInfo) -> Result<bool, SinkError> {
        if info.kind != "logaggregator" {
            return Err(SinkError::Kind);
        }
        let aggregator = Aggregator::of(&info.config).ok_or(SinkError::Config)?;
        let mut running = self.lock();
        if running.contains_key(id) {
            return Ok(false);
        }
        if running.len() >= MOST {
            return Err(SinkError::TooMany);
        }
        let tasks = self.tasks.child(id);
        let (sender, progress) = watch::channel(Progress::default());
        tasks.spawn_until_stop(
            "send",
            aggregator.keep_sending(self.host.clone(), self.logs.clone(), sender),
        );
        running.insert(id.to_owned(), Running { info, tasks, progress });
        Ok(true)
    }

    /// The cluster's aggregators are these now.
    fn set_host_managed(&self, wanted: &BTreeMap<String, SinkInfo>) {
        self.lock().retain(|id, running| {
            let stays = !running.info.host_managed || wanted.contains_key(id);
            if !stays {
                tracing::info!(sink = %id, "log aggregator left");
                running.tasks.stop();
            }
            stays
        });
        for (id, info) in wanted {
            match self.start(id, info.clone()) {
                Ok(true) => tracing::info!(sink = %id, "log aggregator found"),
                Ok(false) => {}
                Err(error) => tracing::warn!(sink = %id, %error, "log aggregator gets no lines"),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
