//! Giving back what a job had. Every step works from the job's id alone and may be repeated, so that a
//! new daemon can finish what an old one began.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host_api::Job;
use kit_ids::JobId;

use super::prepare::owner;
use crate::host::{Host, is_direct};
use crate::store::StoreError;

/// How long a finished job without a log can still be attached to by a client whose connection broke
/// with the daemon.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// Gives everything back and says so, unless nothing was made.
pub(super) async fn clean_up(host: &Arc<Host>, id: &JobId, silent: bool) -> Result<(), StoreError> {
    let Some(record) = host.registry.get(id).await? else { return Ok(()) };
    let job = record.active.job;
    if let Err(error) = host.nets.detach_job(id).await {
        tracing::warn!(job = %id, %error, "network of the job stays");
    }
    destroy_volumes(host, &job).await;
    if let Err(error) = host.scratch.remove(id).await {
        tracing::warn!(job = %id, %error, "scratch disk stays");
    }
    if let Some(layers) = host.release(id) {
        // Unmounting blocks.
        drop(tokio::task::spawn_blocking(move || drop(layers)).await);
    }
    free_range(host, &job).await?;
    remove_dir(host, &job).await;
    host.logs.close_idle();
    host.registry.cleaned(id, silent).await
}

async fn destroy_volumes(host: &Host, job: &Job) {
    for binding in job.config.volumes.iter().filter(|binding| binding.delete_on_stop) {
        if let Err(error) = host.volumes.destroy(&binding.volume).await {
            tracing::warn!(job = %job.id, volume = %binding.volume, %error, "volume stays");
        }
    }
}

/// The range of user ids is free when no other job of its owner has files.
async fn free_range(host: &Host, job: &Job) -> Result<(), StoreError> {
    let mine = owner(job);
    let jobs = host.registry.list().await;
    let shared = jobs.iter().any(|record| {
        !record.cleaned && record.active.job.id != job.id && owner(&record.active.job) == mine
    });
    if shared { Ok(()) } else { host.ranges.free(&mine).await }
}

/// The supervisor's folder: at once for a logged job, after a while for one whose output is only there.
async fn remove_dir(host: &Arc<Host>, job: &Job) {
    if is_direct(job) {
        remove_dir_later(host, &job.id);
    } else {
        remove(&host.job_dir(&job.id)).await;
    }
}

/// Leaves a returning client the time to read what the supervisor left.
pub(super) fn remove_dir_later(host: &Arc<Host>, job: &JobId) {
    let dir = host.job_dir(job);
    host.tasks.spawn_until_stop("remove job folder", async move {
        tokio::time::sleep(LAST_WORDS).await;
        remove(&dir).await;
    });
}

async fn remove(dir: &Path) {
    match tokio::fs::remove_dir_all(dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(dir = %dir.display(), %error, "job's folder stays");
        }
        Ok(()) | Err(_) => {}
    }
}
