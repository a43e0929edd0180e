//! Calls about jobs.

use std::time::Duration;

use kit_http::{ClientError, Request, Upgraded};

use super::{Client, path};
use crate::{Job, NewJob, SCHEDULER_TURN, SchedulerTurn};

/// The controller waits up to 30 s for a host to take an attached job, then for its start.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(300);

/// A host asks a program to end and waits 30 s before it kills it.
const KILL_TIMEOUT: Duration = Duration::from_secs(60);

impl Client {
    /// An app's jobs, the newest first.
    pub async fn jobs(&self, app: &str) -> Result<Vec<Job>, ClientError> {
        self.http.get_json(&path(&["apps", app, "jobs"])).await
    }

    /// One job, by either of its ids.
    pub async fn job(&self, app: &str, id: &str) -> Result<Job, ClientError> {
        self.http.get_json(&path(&["apps", app, "jobs", id])).await
    }

    /// All jobs that wait for a host, start, run or stop; the latest change first.
    pub async fn active_jobs(&self) -> Result<Vec<Job>, ClientError> {
        self.http.get_json("/active-jobs").await
    }

    /// Records what is known of a job. For the scheduler.
    pub async fn put_job(&self, job: &Job) -> Result<Job, ClientError> {
        let app = job.app.as_ref().map_or("", |id| id.as_str());
        let uuid = job.uuid.as_ref().map_or("", |id| id.as_str());
        self.http.put_json(&path(&["apps", app, "jobs", uuid]), job).await
    }

    /// Begins a scheduler's turn: from now on what is recorded in an earlier one is refused.
    pub async fn next_scheduler_turn(&self) -> Result<SchedulerTurn, ClientError> {
        let call = Request::new(http::Method::POST, "/scheduler-turns");
        self.http.call(call).await
    }

    /// As [`put_job`](Self::put_job), but only while nobody has begun a later turn: refused with
    /// `precondition_failed` then.
    pub async fn put_job_in_turn(
        &self,
        job: &Job,
        turn: Option<SchedulerTurn>,
    ) -> Result<Job, ClientError> {
        let Some(turn) = turn else { return self.put_job(job).await };
        let app = job.app.as_ref().map_or("", |id| id.as_str());
        let uuid = job.uuid.as_ref().map_or("", |id| id.as_str());
        let call =
            Request::new(http::Method::PUT, &path(&["apps", app, "jobs", uuid])).json(job)?;
        let name = http::HeaderName::from_static(SCHEDULER_TURN);
        self.http.call(call.header(name, &turn.turn.to_string())?).await
    }

    /// Runs a job outside any formation and does not wait for it.
    pub async fn run_job(&self, app: &str, request: &NewJob) -> Result<Job, ClientError> {
        self.http.post_json(&path(&["apps", app, "jobs"]), request).await
    }

    /// Runs a job and connects to it: attach frames (see `host_api::frame`) from the first byte on.
    pub async fn run_job_attached(
        &self,
        app: &str,
        request: &NewJob,
    ) -> Result<Upgraded, ClientError> {
        let call = Request::new(http::Method::POST, &path(&["apps", app, "jobs"])).json(request)?;
        self.http.upgrade(call.timeout(ATTACH_TIMEOUT), host_api::UPGRADE_PROTOCOL).await
    }

    /// Stops a job.
    pub async fn kill_job(&self, app: &str, id: &str) -> Result<(), ClientError> {
        let call = Request::new(http::Method::DELETE, &path(&["apps", app, "jobs", id]));
        self.http.call::<kit_http::Ignored>(call.timeout(KILL_TIMEOUT)).await.map(drop)
    }
}
