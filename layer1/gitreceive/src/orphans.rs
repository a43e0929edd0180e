//! Build jobs whose push is gone. A receiver that is killed cannot stop its build job; whoever is left
//! sees that the job it belonged to has ended, or that this server does not know the push, and stops it.
//!
//! Level, not edge: looked at again and again, and only what was seen twice is ended, so that a record
//! that lags behind costs no build.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use controller_api::{Client, Job, JobUuid};
use kit_ids::JobId;
use kit_tasks::Tasks;

use crate::receiver::{BUILD_TYPE, META_JOB, META_PUSH};
use crate::settings::Settings;

const INTERVAL: Duration = Duration::from_secs(20);

/// The pushes this server works on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pushes(Arc<Mutex<BTreeSet<String>>>);

impl Pushes {
    /// Counts a push until the guard is dropped.
    pub(crate) fn enter(&self, push: String) -> UnderWay {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(push.clone());
        UnderWay { pushes: self.clone(), push }
    }

    fn contains(&self, push: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(push)
    }
}

/// A push under way.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pushes: Pushes,
    push: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.pushes.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.push);
    }
}

/// Starts looking. Without a job of its own (outside a platform) a server cannot tell who is whose.
pub(crate) fn start(controller: Client, settings: &Settings, pushes: Pushes, tasks: &Tasks) {
    let Some(own) = settings.own_job().map(str::to_owned) else { return };
    tasks.spawn_until_stop("orphans", async move {
        let mut suspects = BTreeSet::new();
        loop {
            tokio::time::sleep(INTERVAL).await;
            match controller.active_jobs().await {
                Ok(jobs) => {
                    let seen = orphans(&jobs, &own, &|push| pushes.contains(push));
                    for job in jobs.iter().filter(|job| is_in(job, &seen) && is_in(job, &suspects))
                    {
                        end(&controller, job).await;
                    }
                    suspects = seen;
                }
                Err(error) => tracing::debug!(%error, "the jobs cannot be listed"),
            }
        }
    });
}

/// Build jobs of receivers that are gone.
fn orphans(jobs: &[Job], own: &str, is_known: &dyn Fn(&str) -> bool) -> BTreeSet<JobUuid> {
    let is_alive = |id: &str| jobs.iter().any(|job| job.id.as_ref().map(JobId::as_str) == Some(id));
    let is_orphan = |job: &&Job| {
        let Some(receiver) = job.meta.get(META_JOB) else { return false };
        let is_lost = job.meta.get(META_PUSH).is_some_and(|push| !is_known(push));
        !is_alive(receiver) && receiver != own || receiver == own && is_lost
    };
    let builds = jobs.iter().filter(|job| job.process_type == BUILD_TYPE);
    builds.filter(is_orphan).filter_map(|job| job.uuid.clone()).collect()
}

fn is_in(job: &Job, set: &BTreeSet<JobUuid>) -> bool {
    job.uuid.as_ref().is_some_and(|uuid| set.contains(uuid))
}

async fn end(controller: &Client, job: &Job) {
    let app = job.app.as_ref().map_or("", |app| app.as_str());
    let id = job.uuid.as_ref().map_or("", JobUuid::as_str);
    match controller.kill_job(app, id).await {
        Ok(()) => tracing::info!(app, job = id, "a build job without a push was ended"),
        Err(error) => tracing::warn!(app, job = id, %error, "a build job without a push stays"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: u32, kind: &str, meta: &[(&str, &str)]) -> Job {
        let uuid = format!("00000000-0000-4000-8000-{id:012}");
        Job {
            id: Some(format!("host-{uuid}").parse().unwrap()),
            uuid: Some(uuid.parse().unwrap()),
            process_type: kind.to_owned(),
            meta: meta
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..Job::default()
        }
    }

    #[test]
    fn builds_of_ended_receivers_and_of_lost_pushes_are_orphans() {
        let own = "host-00000000-0000-4000-8000-000000000001";
        let other = "host-00000000-0000-4000-8000-000000000002";
        let gone = "host-00000000-0000-4000-8000-000000000009";
        let jobs = [
            job(1, "app", &[]),
            job(2, "app", &[]),
            job(10, BUILD_TYPE, &[(META_JOB, own), (META_PUSH, "known")]),
            job(11, BUILD_TYPE, &[(META_JOB, own), (META_PUSH, "lost")]),
            job(12, BUILD_TYPE, &[(META_JOB, other), (META_PUSH, "theirs")]),
            job(13, BUILD_TYPE, &[(META_JOB, gone), (META_PUSH, "theirs")]),
            job(14, BUILD_TYPE, &[]),
            job(15, "web", &[(META_JOB, gone)]),
            job(16, BUILD_TYPE, &[(META_JOB, own)]),
        ];
        let found = orphans(&jobs, own, &|push| push == "known");
        let numbers: Vec<_> = found.iter().map(|uuid| &uuid.as_str()[34..]).collect();
        assert_eq!(numbers, ["11", "13"]);
    }
}
