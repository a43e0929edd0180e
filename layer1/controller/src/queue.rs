//! Work for the background, durable in the database: put there in the transaction that makes it
//! necessary, claimed by one worker at a time, gone in the transaction that finishes it.
//!
//! A claim is a lease by the database's clock. Whoever holds one renews it; when the holder dies it
//! runs out and another worker claims the work. Every change that a holder makes locks its claim first
//! ([`Claim::hold`]), so one that was overtaken changes nothing any more.

use std::time::Duration;

use controller_api::ReleaseDeletion;
use kit_http::ApiError;
use kit_ids::{AppId, DeploymentId};
use kit_pg::{Client, GenericClient, Json};
use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::failure::{Answer, Failure};
use crate::rows;

/// What is kept of an error's text.
const MAX_ERROR: usize = 1000;

/// Something to do in the background.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Task {
    /// Replace what an app runs.
    Deployment { id: DeploymentId },
    /// Delete releases that an app does not need any more.
    AppGarbageCollection { app: AppId },
    /// Delete files from the blob store. Then tell of the release that they belonged to, if any.
    BlobCleanup { files: Vec<String>, deletion: Option<ReleaseDeletion> },
}

/// A piece of work that is ours for now.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    id: i64,
    /// Another one each time the work is claimed.
    token: String,
    pub(crate) task: Task,
    /// How often it was tried in vain.
    pub(crate) failures: i32,
}

/// Adds work, to be done once the change is committed.
pub(crate) async fn add(change: &Change<'_>, task: &Task) -> Answer<()> {
    let query = "INSERT INTO worker_jobs (task) VALUES ($1)";
    change.tx().execute(query, &[&Json(task)]).await?;
    Ok(())
}

/// Claims the oldest work that is due and nobody's.
pub(crate) async fn claim(db: &impl GenericClient, lease: Duration) -> Answer<Option<Claim>> {
    let query = "UPDATE worker_jobs SET claimed_by = gen_random_uuid(), \
           claimed_until = clock_timestamp() + make_interval(secs => $1) \
         WHERE id = (SELECT id FROM worker_jobs WHERE run_at <= clock_timestamp() \
           AND (claimed_until IS NULL OR claimed_until < clock_timestamp()) \
           ORDER BY run_at, id FOR UPDATE SKIP LOCKED LIMIT 1) \
         RETURNING id, claimed_by::text AS token, task, failures";
    let Some(row) = db.query_opt(query, &[&lease.as_secs_f64()]).await? else { return Ok(None) };
    let Json(task) = row.try_get("task")?;
    let (id, failures) = (row.try_get("id")?, row.try_get("failures")?);
    Ok(Some(Claim { id, token: rows::text(&row, "token")?, task, failures }))
}

impl Claim {
    /// Makes it ours for longer; false when another worker has it.
    pub(crate) async fn renew(&self, db: &impl GenericClient, lease: Duration) -> Answer<bool> {
        let query = "UPDATE worker_jobs \
             SET claimed_until = clock_timestamp() + make_interval(secs => $3) \
             WHERE id = $1 AND claimed_by = $2::text::uuid";
        let renewed = db.execute(query, &[&self.id, &self.token, &lease.as_secs_f64()]).await?;
        Ok(renewed == 1)
    }

    /// Makes sure, until the change is committed, that the work is ours.
    pub(crate) async fn hold(&self, change: &Change<'_>) -> Answer<()> {
        let query =
            "SELECT 1 FROM worker_jobs WHERE id = $1 AND claimed_by = $2::text::uuid FOR UPDATE";
        let held = change.tx().query_opt(query, &[&self.id, &self.token]).await?;
        held.map(drop).ok_or_else(|| {
            Failure::Api(ApiError::conflict("another worker has taken over the work"))
        })
    }

    /// The work is done with this change.
    pub(crate) async fn finish(&self, change: &Change<'_>) -> Answer<()> {
        self.hold(change).await?;
        change.tx().execute("DELETE FROM worker_jobs WHERE id = $1", &[&self.id]).await?;
        Ok(())
    }

    /// Gives the work back, for another worker to go on at once.
    pub(crate) async fn give_back(&self, client: &Client) -> Answer<()> {
        let query = "UPDATE worker_jobs SET claimed_by = NULL, claimed_until = NULL \
             WHERE id = $1 AND claimed_by = $2::text::uuid";
        client.execute(query, &[&self.id, &self.token]).await?;
        Ok(())
    }

    /// Gives the work back, to be tried again later.
    pub(crate) async fn give_up_for(
        &self,
        client: &Client,
        pause: Duration,
        error: &str,
    ) -> Answer<()> {
        let query = "UPDATE worker_jobs SET claimed_by = NULL, claimed_until = NULL, \
             failures = failures + 1, last_error = $3, \
             run_at = clock_timestamp() + make_interval(secs => $4) \
             WHERE id = $1 AND claimed_by = $2::text::uuid";
        let error: String = error.chars().take(MAX_ERROR).collect();
        client.execute(query, &[&self.id, &self.token, &error, &pause.as_secs_f64()]).await?;
        Ok(())
    }
}
