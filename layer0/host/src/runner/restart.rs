//! The host's own restarts: a job with `resurrect` that ended without a stop request gets a successor.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use host_api::{Job, META_PREDECESSOR, META_RESTARTS, Timestamp, VolumeInfo};
use host_job::{Decision, Outcome};
use kit_backoff::Backoff;
use kit_ids::JobId;

use super::{Begin, spawn};
use crate::host::Host;
use crate::registry::{AddError, Record};
use crate::store::StoreError;

/// Starts a successor after the rule's delay, in a task of its own.
pub(super) async fn maybe(host: &Arc<Host>, id: &JobId) -> Result<(), StoreError> {
    if !host.config.resurrect || host.going_down.load(Ordering::SeqCst) {
        return Ok(());
    }
    let Some(record) = host.registry.get(id).await? else { return Ok(()) };
    match host.config.restart.decide(outcome(&record), rand::random()) {
        Decision::Leave(_) => {}
        Decision::Restart { delay, quick_ends } => later(host, record, delay, quick_ends),
    }
    Ok(())
}

/// Whether the record is of a job that should have a successor and has none.
pub(super) fn is_due(record: &Record, all: &[Record]) -> bool {
    let active = &record.active;
    let id = active.job.id.as_str();
    let has_successor =
        || all.iter().any(|other| other.active.job.meta(META_PREDECESSOR) == Some(id));
    record.cleaned && active.job.resurrect && !active.force_stop && !has_successor()
}

fn outcome(record: &Record) -> Outcome {
    let active = &record.active;
    let ran_for = match (active.started_at.wall(), active.ended_at.wall()) {
        (Some(start), Some(end)) => end.since_epoch().saturating_sub(start.since_epoch()),
        (None, _) | (_, None) => Duration::ZERO,
    };
    Outcome {
        resurrect: active.job.resurrect,
        stop_requested: active.force_stop,
        ran_for,
        quick_ends: record.quick_ends,
    }
}

fn later(host: &Arc<Host>, record: Record, delay: Duration, quick_ends: u32) {
    let host_of_task = host.clone();
    host.tasks.spawn_until_stop("restart", async move {
        tokio::time::sleep(delay).await;
        let mut pause =
            Backoff::new(Duration::from_secs(1), Duration::from_secs(60), rand::random());
        while let Err(error) = succeed(&host_of_task, &record, quick_ends).await {
            tracing::warn!(job = %record.active.job.id, %error, "job cannot be restarted yet");
            tokio::time::sleep(pause.next_delay()).await;
        }
    });
}

async fn succeed(host: &Arc<Host>, record: &Record, quick_ends: u32) -> Result<(), AddError> {
    let job = successor(host, &record.active.job);
    let id = job.id.clone();
    tracing::info!(job = %id, predecessor = %record.active.job.id, quick_ends, "restarting a job");
    let reservation = host.limits(&job).reservation;
    renew_volumes(host, &job).await;
    host.registry.add(job, reservation, quick_ends).await?;
    spawn(host, id, Begin::Fresh(None));
    Ok(())
}

/// Volumes that went with the predecessor are there again, empty. One that cannot be made is told by the
/// start of the job, which misses it.
async fn renew_volumes(host: &Host, job: &Job) {
    for binding in job.config.volumes.iter().filter(|binding| binding.delete_on_stop) {
        if host.volumes.get(&binding.volume).await.is_some() {
            continue;
        }
        let now = Timestamp::from(host.clock.wall());
        let info = VolumeInfo { id: binding.volume.clone(), ..VolumeInfo::default() };
        if let Err(error) = host.volumes.create(info, now).await {
            tracing::warn!(job = %job.id, volume = %binding.volume, %error, "volume is not made anew");
        }
    }
}

/// The same job under a new id that names the old one.
fn successor(host: &Host, old: &Job) -> Job {
    let mut job = old.clone();
    job.id = JobId::random(&host.config.id);
    let restarts = old.meta(META_RESTARTS).and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    job.metadata.insert(META_PREDECESSOR.to_owned(), old.id.to_string());
    job.metadata.insert(META_RESTARTS.to_owned(), (restarts + 1).to_string());
    if let Some(id) = job.config.env.get_mut("FLYNN_JOB_ID") {
        *id = job.id.to_string();
    }
    job
}
