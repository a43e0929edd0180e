//! Ending jobs: a request the program can answer, then a kill.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use host_api::Job;
use host_container::protocol::Order;
use kit_ids::JobId;

use crate::host::Host;
use crate::registry::Phase;
use crate::store::StoreError;
use crate::supervisor::{OrderError, order};

const TERM: i32 = libc::SIGTERM;
const KILL: i32 = libc::SIGKILL;
/// How long a killed job may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a job was not stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StopError {
    #[error("host: unknown job")]
    Unknown,
    #[error("host: job is already stopped")]
    AlreadyStopped,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stops a job: one that runs is asked, waited for, killed; one that starts is stopped as soon as it
/// can be.
pub(crate) async fn stop(host: &Arc<Host>, job: &JobId) -> Result<(), StopError> {
    let record = host.registry.get(job).await?.ok_or(StopError::Unknown)?;
    if record.active.status.has_ended() {
        return Err(StopError::AlreadyStopped);
    }
    host.registry.apply(job, host_job::Event::StopRequested).await?;
    end(host, job).await;
    Ok(())
}

/// Stops every job that runs.
pub(crate) async fn stop_all(host: &Arc<Host>) {
    let stops = running(host).await.into_iter().map(|job| stop_told(host, job.id));
    futures_util::future::join_all(stops).await;
}

/// Ends every job because the host goes down. What belongs to the host was not asked to stop, so that the
/// next daemon starts it again; discoverd goes last, because all others leave their services through it.
pub(crate) async fn go_down(host: &Arc<Host>) {
    host.going_down.store(true, Ordering::SeqCst);
    let discoverd = host.settings.now().discoverd.map(|told| told.job_id).unwrap_or_default();
    let (last, first): (Vec<Job>, Vec<Job>) =
        running(host).await.into_iter().partition(|job| job.id.as_str() == discoverd);
    for jobs in [first, last] {
        let ends = jobs.into_iter().map(async |job| {
            if job.resurrect { end(host, &job.id).await } else { stop_told(host, job.id).await }
        });
        futures_util::future::join_all(ends).await;
    }
}

async fn running(host: &Host) -> Vec<Job> {
    let jobs = host.registry.list().await.into_iter().map(|record| record.active);
    jobs.filter(|active| !active.status.has_ended()).map(|active| active.job).collect()
}

async fn stop_told(host: &Arc<Host>, job: JobId) {
    if let Err(error) = stop(host, &job).await {
        tracing::warn!(%job, %error, "job not stopped");
    }
}

/// Ends a job whose stop was asked for while it started.
pub(super) fn end_later(host: &Arc<Host>, job: &JobId) {
    let (host_of_task, job) = (host.clone(), job.clone());
    host.tasks.spawn_until_stop("stop", async move { end(&host_of_task, &job).await });
}

async fn end(host: &Host, job: &JobId) {
    let Some(mut phase) = host.registry.phase(job).await else { return };
    if *phase.borrow() < Phase::Running {
        return;
    }
    let dir = host.job_dir(job);
    // Out of its services first: the supervisor holds the signal until discoverd has confirmed that.
    send(job, order(&dir, Order::Deregister).await);
    send(job, order(&dir, Order::Signal { signal: TERM }).await);
    let ended = phase.wait_for(|phase| *phase >= Phase::Ended);
    if tokio::time::timeout(host.config.stop_grace, ended).await.is_ok() {
        return;
    }
    send(job, order(&dir, Order::Signal { signal: KILL }).await);
    let ended = phase.wait_for(|phase| *phase >= Phase::Ended);
    if tokio::time::timeout(KILL_TIMEOUT, ended).await.is_err() {
        tracing::error!(%job, "job still runs after it was killed");
    }
}

/// A lost supervisor counts as success: so is its job.
fn send(job: &JobId, result: Result<(), OrderError>) {
    if let Err(error) = result {
        tracing::debug!(%job, %error, "signal not delivered");
    }
}
