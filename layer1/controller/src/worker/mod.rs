//! The worker: does what is in the queue, most of all deployments.
//!
//! Any number of workers may run. Each claims work from the database, several pieces at a time, and
//! renews its claims while it works; a worker that is asked to end gives its work back, and what a
//! killed one held is claimed by another when the claim has run out. Work is level-triggered: whoever
//! takes it over looks at what is, and goes on from there.

mod cleanup;
mod config;
mod deployment;
mod garbage;
mod probe;
mod sight;
mod words;

use std::sync::Arc;
use std::time::Duration;

use discoverd_api::DiscoverdResolver;
use kit_backoff::Backoff;
use kit_http::Status;
use kit_pg::{Client, Listener, PgError, Pool};
use kit_tasks::{Running, Tasks};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::failure::{Answer, Failure};
use crate::hosts::Hosts;
use crate::queue::{self, Claim, Task};
use crate::server::{MIGRATIONS, StartError};

pub use config::Config;

/// Work done at a time by one worker.
const MAX_AT_ONCE: usize = 10;
/// Database connections: one for each piece of work and some for claims.
const CONNECTIONS: usize = MAX_AT_ONCE + 4;
/// How often the queue is looked at when nothing was told.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long the blob store may take to delete a file.
const BLOB_TIMEOUT: Duration = Duration::from_secs(30);
/// The channel on which the database says that something has happened.
const EVENTS: &str = "events";

/// Starts a worker below `tasks`. Its status page is there when this returns; the database may come
/// later.
///
/// # Errors
/// When it cannot listen.
pub async fn start(config: Config, tasks: &Tasks) -> Result<Running, StartError> {
    let tasks = tasks.child("worker");
    let addr = config.listen;
    let listener = TcpListener::bind(addr).await;
    let listener = listener.map_err(|source| StartError::Listen { addr, source })?;
    let pool = Pool::new(&config.database, CONNECTIONS).map_err(StartError::Pool)?;
    let blobs = blobs(&config).map_err(StartError::Http)?;
    let (ready, is_ready) = watch::channel(false);
    let version = config.version.clone();
    let worker = Worker(Arc::new(Inner {
        hosts: Hosts::new(config.discoverd.clone()),
        tasks: tasks.clone(),
        config,
        pool,
        blobs,
    }));
    let for_health = worker.clone();
    let page = kit_http::status_router(&version, move || {
        let (worker, is_ready) = (for_health.clone(), *is_ready.borrow());
        async move { worker.health(is_ready).await }
    });
    tasks.spawn("work", worker.run(ready));
    let running = kit_http::serve(&tasks, listener, kit_http::finish(page));
    let running = running.map_err(|source| StartError::Listen { addr, source })?;
    Ok(Running { addrs: running.addrs, tasks })
}

fn blobs(config: &Config) -> Result<kit_http::Client, kit_http::ClientError> {
    let builder = kit_http::Client::builder(cleanup::BLOBSTORE).key(&config.key);
    let builder = builder.request_timeout(BLOB_TIMEOUT);
    match &config.discoverd {
        Some(client) => builder.resolver(Arc::new(DiscoverdResolver::new(client.clone()))).build(),
        None => builder.build(),
    }
}

/// What pieces of work share. Cheap to clone.
#[derive(Clone, Debug)]
struct Worker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    pool: Pool,
    hosts: Hosts,
    /// The blob store.
    blobs: kit_http::Client,
    tasks: Tasks,
}

impl Worker {
    async fn health(&self, is_ready: bool) -> Status {
        if !is_ready {
            return Status::unhealthy("the database is not available yet");
        }
        match self.0.pool.check().await {
            Ok(()) => Status::healthy(),
            Err(error) => Status::unhealthy(error.to_string()),
        }
    }

    async fn client(&self) -> Result<Client, PgError> {
        self.0.pool.client().await
    }

    async fn run(self, ready: watch::Sender<bool>) {
        let tasks = self.0.tasks.clone();
        tokio::select! {
            () = tasks.stopping() => return,
            () = self.migrate() => {}
        }
        ready.send_replace(true);
        tracing::info!("ready");
        let mut news = kit_pg::listen(&tasks, &self.0.config.database, EVENTS);
        tasks.spawn_until_stop("images", garbage::keep_collecting_images(self.clone()));
        let slots = Arc::new(tokio::sync::Semaphore::new(MAX_AT_ONCE));
        while !tasks.is_stopping() {
            let permit = tokio::select! {
                () = tasks.stopping() => return,
                permit = slots.clone().acquire_owned() => permit,
            };
            match self.claim().await {
                Ok(Some(claim)) => {
                    let (worker, news) = (self.clone(), news.clone());
                    tasks.spawn("job", async move {
                        worker.work(&claim, news).await;
                        drop(permit);
                    });
                    continue;
                }
                Ok(None) => {}
                Err(failure) => tracing::debug!(?failure, "no work claimed, trying again"),
            }
            drop(permit);
            tokio::select! {
                () = tasks.stopping() => {}
                () = news.woken() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn migrate(&self) {
        let mut pause =
            Backoff::new(Duration::from_millis(200), Duration::from_secs(5), rand::random());
        while let Err(error) = kit_pg::migrate(&self.0.config.database, MIGRATIONS).await {
            tracing::warn!(%error, cause = ?std::error::Error::source(&error), "the database is not ready, trying again");
            tokio::time::sleep(pause.next_delay()).await;
        }
    }

    async fn claim(&self) -> Answer<Option<Claim>> {
        queue::claim(&self.client().await?, self.0.config.lease).await
    }

    /// Does one piece of work, or hands it on.
    async fn work(&self, claim: &Claim, news: Listener) {
        tracing::info!(task = ?claim.task, failures = claim.failures, "working");
        let outcome = tokio::select! {
            done = self.perform(claim, news) => Some(done),
            () = self.keep(claim) => {
                tracing::warn!(task = ?claim.task, "another worker has taken over");
                return;
            }
            () = self.0.tasks.stopping() => None,
        };
        let handed_on = match outcome {
            Some(Ok(())) => return,
            Some(Err(failure)) => self.try_later(claim, &failure).await,
            None => self.give_back(claim).await,
        };
        if let Err(failure) = handed_on {
            tracing::warn!(task = ?claim.task, ?failure, "work not given back: its claim has to run out");
        }
    }

    async fn perform(&self, claim: &Claim, news: Listener) -> Answer<()> {
        match &claim.task {
            Task::Deployment { id } => deployment::perform(self, claim, id, news).await,
            Task::AppGarbageCollection { app } => garbage::collect(self, claim, app).await,
            Task::BlobCleanup { files, deletion } => {
                cleanup::perform(self, claim, files, deletion.as_ref()).await
            }
        }
    }

    /// Renews the claim; ends when it is another worker's.
    async fn keep(&self, claim: &Claim) {
        let lease = self.0.config.lease;
        loop {
            tokio::time::sleep(lease / 4).await;
            let renewed = async { claim.renew(&self.client().await?, lease).await };
            match renewed.await {
                Ok(true) => {}
                Ok(false) => return,
                // Nobody else can claim it either while the database is away.
                Err(failure) => tracing::debug!(?failure, "claim not renewed, trying again"),
            }
        }
    }

    async fn give_back(&self, claim: &Claim) -> Answer<()> {
        claim.give_back(&self.client().await?).await
    }

    async fn try_later(&self, claim: &Claim, failure: &Failure) -> Answer<()> {
        let exponent = u32::try_from(claim.failures.clamp(0, 8)).unwrap_or(0);
        let pause = Duration::from_secs(1) * 2_u32.pow(exponent);
        tracing::warn!(task = ?claim.task, ?failure, ?pause, "work failed, trying again");
        claim.give_up_for(&self.client().await?, pause, &words::of_failure(failure)).await
    }
}
