//! The life of one job in this daemon: prepare, start, follow, clean up, maybe restart. One task per
//! job; it is dropped, not undone, when the daemon stops, and the next daemon takes the job up again.

mod adopt;
mod cleanup;
mod description;
mod follow;
mod https;
mod prepare;
mod pump;
mod restart;
mod stop;

use std::sync::Arc;
use std::time::Duration;

use host_container::protocol::ExitRecord;
use kit_backoff::Backoff;
use kit_ids::JobId;
use tokio::sync::OwnedSemaphorePermit;

use crate::host::Host;
use crate::store::StoreError;
use crate::supervisor::Supervisor;

pub(crate) use adopt::adopt_all;
pub(crate) use follow::wire_stream;
pub(crate) use stop::{StopError, go_down, stop, stop_all};

/// Between two tries to keep a job's state.
const STATE_PAUSE: Duration = Duration::from_millis(200);
const STATE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Where a job's task begins.
#[derive(Debug)]
pub(crate) enum Begin {
    /// Nothing was done yet.
    Fresh(Option<OwnedSemaphorePermit>),
    /// Its supervisor lives.
    Live(Box<Supervisor>),
    /// Its supervisor has ended and left a record, or was lost.
    Over(Option<ExitRecord>),
    /// It ended in the life of an earlier daemon, which did not clean up.
    CleanUp,
}

/// How a job's making and running came out.
struct Outcome {
    event: Option<host_job::Event>,
    /// Nothing was made, so nobody is told of a clean-up.
    silent: bool,
}

/// Takes a job up in a task of its own.
pub(crate) fn spawn(host: &Arc<Host>, job: JobId, begin: Begin) {
    let (name, host_of_task) = (format!("job {job}"), host.clone());
    host.tasks.spawn_until_stop(&name, async move { live(&host_of_task, &job, begin).await });
}

async fn live(host: &Arc<Host>, job: &JobId, begin: Begin) {
    let outcome = match begin {
        Begin::Fresh(permit) => fresh(host, job, permit).await,
        Begin::Live(supervisor) => ended(follow::follow(host, job, *supervisor).await),
        Begin::Over(record) => ended(follow::over(host, job, record).await),
        Begin::CleanUp => Outcome { event: None, silent: false },
    };
    if let Some(event) = outcome.event {
        // Who hears of the end may ask for the log at once.
        host.sinks.flushed().await;
        if let host_job::Event::Failed { reason } = &event {
            tracing::warn!(%job, %reason, "job failed");
        }
        let apply = |event| async { host.registry.apply(job, event).await.map(drop) };
        kept(job, || apply(event.clone())).await;
    }
    kept(job, || cleanup::clean_up(host, job, outcome.silent)).await;
    kept(job, || restart::maybe(host, job)).await;
}

/// Does what changes the host's state, again until it is on disk: a disk that is full has room again
/// some day, and then nothing of the job may be left undone.
async fn kept<F>(job: &JobId, change: impl Fn() -> F)
where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut pause = Backoff::new(STATE_PAUSE, STATE_PAUSE_MAX, rand::random());
    while let Err(error) = change().await {
        if pause.attempts() == 0 {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%job, %error, cause, "job's state is not kept, trying again");
        }
        tokio::time::sleep(pause.next_delay()).await;
    }
}

fn ended(event: host_job::Event) -> Outcome {
    Outcome { event: Some(event), silent: false }
}

/// Makes the job and follows it, unless somebody stops it before it has a container.
async fn fresh(host: &Arc<Host>, job: &JobId, permit: Option<OwnedSemaphorePermit>) -> Outcome {
    let made = tokio::select! {
        biased;
        () = host.registry.stop_requested(job) => {
            return Outcome { event: Some(host_job::Event::StoppedBeforeStart), silent: true };
        }
        made = prepare::make(host, job, permit) => made,
    };
    let started = match made {
        Ok((spec, permit)) => {
            let started = prepare::launch(host, &spec);
            drop(permit);
            started
        }
        Err(error) => Err(error),
    };
    match started {
        Ok(Some(supervisor)) => ended(follow::follow(host, job, supervisor).await),
        Ok(None) => {
            let record = follow::read_exit(&host.job_dir(job));
            ended(follow::over(host, job, record).await)
        }
        Err(error) => Outcome {
            silent: error.is_early(),
            event: Some(host_job::Event::Failed { reason: error.reason() }),
        },
    }
}
