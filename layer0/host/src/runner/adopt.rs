//! After a start of the daemon: every job that was not over is taken up where it stands, and what an
//! earlier daemon left is removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use host_api::JobStatus;
use kit_ids::JobId;

use super::follow::read_exit;
use super::{Begin, cleanup, restart, spawn};
use crate::host::Host;
use crate::registry::Record;
use crate::store::StoreError;
use crate::supervisor::Supervisor;

/// Takes up all jobs.
pub(crate) async fn adopt_all(host: &Arc<Host>) -> Result<(), StoreError> {
    let all = host.registry.list().await;
    let mut begins = Vec::new();
    for record in all.iter().filter(|record| !record.cleaned) {
        begins.push((record, begin(host, record)));
    }
    let is_live = |begin: &Begin| matches!(begin, Begin::Live(_));
    let live = begins.iter().filter(|(_, begin)| is_live(begin));
    let live: Vec<JobId> = live.map(|(record, _)| record.active.job.id.clone()).collect();
    for (record, begin) in &begins {
        let job = &record.active.job;
        if !record.active.status.has_ended() {
            host.registry.adopt(&job.id, host.limits(job).reservation).await;
        }
        if is_live(begin) {
            hold_layers(host, record).await;
        }
    }
    sweep_processes(host, &live).await;
    restore_network(host, &live).await;
    host.scratch.sweep(&live).await;
    sweep_layers(host).await;
    sweep_folders(host, &begins.iter().map(|(record, _)| &record.active.job.id).collect());
    let count = begins.len();
    for (record, begin) in begins {
        spawn(host, record.active.job.id.clone(), begin);
    }
    for record in all.iter().filter(|record| restart::is_due(record, &all)) {
        restart::maybe(host, &record.active.job.id).await?;
    }
    tracing::info!(jobs = count, live = live.len(), "jobs of an earlier daemon taken up");
    Ok(())
}

fn begin(host: &Host, record: &Record) -> Begin {
    let active = &record.active;
    let dir = host.job_dir(&active.job.id);
    if active.status.has_ended() {
        return Begin::CleanUp;
    }
    if let Ok(supervisor) = Supervisor::connect(&dir) {
        return Begin::Live(Box::new(supervisor));
    }
    let exit = read_exit(&dir);
    // Accepted, and the daemon ended before it came to start it.
    let never_started = active.status == JobStatus::Starting
        && exit.is_none()
        && !dir.join(host_container::protocol::SOCKET_NAME).exists();
    if never_started { Begin::Fresh(None) } else { Begin::Over(exit) }
}

/// The layers of a running job stay mounted.
async fn hold_layers(host: &Arc<Host>, record: &Record) {
    let job = &record.active.job;
    let mounts = host.mounts.clone();
    let keys: Vec<_> = job
        .mountspecs
        .iter()
        .filter_map(|spec| {
            let size = u64::try_from(spec.size).unwrap_or(0);
            let layer = host_image::Layer {
                id: spec.id.clone(),
                url: String::new(),
                size,
                hashes: spec.hashes.clone(),
            };
            layer.key().ok()
        })
        .collect();
    let acquired = tokio::task::spawn_blocking(move || {
        keys.iter().map(|key| mounts.acquire(key)).collect::<Result<Vec<_>, _>>()
    });
    match acquired.await {
        Ok(Ok(layers)) => host.hold(&job.id, layers),
        Ok(Err(error)) => tracing::warn!(job = %job.id, %error, "layers of a running job"),
        Err(error) => tracing::warn!(job = %job.id, %error, "layers of a running job"),
    }
}

/// Processes of jobs whose supervisor is gone end before their disks and addresses are given away.
async fn sweep_processes(host: &Arc<Host>, live: &[JobId]) {
    let (host, live) = (host.clone(), live.iter().cloned().collect());
    let sweep = move || host.launcher.sweep(&host.config.cgroup_prefix, &live);
    match tokio::task::spawn_blocking(sweep).await {
        Ok(Ok(0)) => {}
        Ok(Ok(jobs)) => tracing::warn!(jobs, "groups without a supervisor ended"),
        Ok(Err(error)) => tracing::warn!(%error, "groups of ended jobs stay"),
        Err(error) => tracing::warn!(%error, "groups of ended jobs stay"),
    }
}

async fn restore_network(host: &Arc<Host>, live: &[JobId]) {
    let running: BTreeSet<_> = live.iter().cloned().collect();
    match host.nets.restore(&running).await {
        Ok(restored) => {
            for job in restored.lost {
                tracing::debug!(%job, "running job has no network of its own");
            }
        }
        Err(error) => tracing::error!(%error, "networks of jobs not restored"),
    }
}

/// Folders of jobs that are over, which an earlier daemon kept for clients that might return.
fn sweep_folders(host: &Arc<Host>, taken_up: &BTreeSet<&JobId>) {
    let Ok(entries) = std::fs::read_dir(host.config.data_dir.join("jobs")) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().ok();
        let job = name.and_then(|name| name.parse::<JobId>().ok());
        if let Some(job) = job.filter(|job| !taken_up.contains(job)) {
            cleanup::remove_dir_later(host, &job);
        }
    }
}

async fn sweep_layers(host: &Arc<Host>) {
    let mounts = host.mounts.clone();
    match tokio::task::spawn_blocking(move || mounts.sweep()).await {
        Ok(Ok(0)) => {}
        Ok(Ok(count)) => tracing::info!(count, "unused layers unmounted"),
        Ok(Err(error)) => tracing::warn!(%error, "unused layers stay mounted"),
        Err(error) => tracing::warn!(%error, "unused layers stay mounted"),
    }
}
