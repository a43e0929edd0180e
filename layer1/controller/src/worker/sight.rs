//! What a deployment can see of a release's scaling: its latest request and its jobs, with all times
//! measured by the database's clock.

use std::time::Duration;

use controller_api::{JobState, Release, ScaleState};
use kit_ids::AppId;
use kit_pg::{GenericClient, Row};
use rollout::{JobPhase, RequestPhase, SeenJob, Sight};

use super::words::{self, End};
use crate::failure::Answer;
use crate::rows;

/// The latest scale request of a formation.
#[derive(Clone, Debug)]
pub(super) struct Request {
    id: String,
    pub(super) phase: RequestPhase,
    pub(super) age: Duration,
    unchanged: Duration,
}

/// The latest request of a formation that was made since the deployment was.
pub(super) async fn request(
    db: &impl GenericClient,
    app: &AppId,
    release: &Release,
    deployment: &str,
) -> Answer<Option<Request>> {
    let query = "SELECT id::text AS id, state, \
           extract(epoch FROM clock_timestamp() - created_at)::float8 AS age, \
           extract(epoch FROM clock_timestamp() - updated_at)::float8 AS unchanged \
         FROM scale_requests WHERE app_id = $1::text::uuid AND release_id = $2::text::uuid \
           AND created_at >= (SELECT created_at FROM deployments WHERE id = $3::text::uuid) \
         ORDER BY state <> 'cancelled' DESC, created_at DESC LIMIT 1";
    let id = rows::text_of(release.id.as_ref()).unwrap_or_default();
    let row = db.query_opt(query, &[&app.as_str(), &id, &deployment]).await?;
    row.as_ref().map(request_of).transpose()
}

/// The step that the request stands for.
pub(super) async fn step(
    db: &impl GenericClient,
    app: &AppId,
    release: &Release,
    request: &Request,
) -> Answer<Sight> {
    let query = "SELECT type, state, exit_status, host_error, \
           extract(epoch FROM clock_timestamp() - updated_at)::float8 AS since, \
           extract(epoch FROM updated_at - (SELECT created_at FROM events \
             WHERE unique_id = uuid::text || '|up'))::float8 AS up_for, \
           extract(epoch FROM updated_at - (SELECT created_at FROM events \
             WHERE unique_id = uuid::text || '|starting'))::float8 AS ran_for, \
           EXISTS (SELECT 1 FROM events WHERE unique_id = uuid::text || '|stopping') AS told \
         FROM jobs WHERE app_id = $1::text::uuid AND release_id = $2::text::uuid AND type <> '' \
           AND (state IN ('pending', 'blocked', 'starting', 'up', 'stopping') OR updated_at >= \
             (SELECT created_at FROM scale_requests WHERE id = $3::text::uuid))";
    let id = rows::text_of(release.id.as_ref()).unwrap_or_default();
    let found = db.query(query, &[&app.as_str(), &id, &request.id]).await?;
    Ok(Sight {
        request: request.phase,
        age: request.age,
        unchanged: request.unchanged,
        jobs: found.iter().map(|row| job_of(row, release)).collect::<Answer<_>>()?,
    })
}

/// How many jobs of a release were told to stop and have not ended.
pub(super) async fn stopping(
    db: &impl GenericClient,
    app: &AppId,
    release: &Release,
) -> Answer<i64> {
    let query = "SELECT count(*) FROM jobs WHERE app_id = $1::text::uuid \
         AND release_id = $2::text::uuid AND type <> '' AND state = 'stopping'";
    let id = rows::text_of(release.id.as_ref()).unwrap_or_default();
    Ok(db.query_one(query, &[&app.as_str(), &id]).await?.try_get(0)?)
}

fn request_of(row: &Row) -> Answer<Request> {
    let phase = match rows::parsed(row, "state")? {
        ScaleState::Pending => RequestPhase::Pending,
        ScaleState::Complete => RequestPhase::Complete,
        ScaleState::Cancelled => RequestPhase::Cancelled,
    };
    let (age, unchanged) = (seconds(row, "age")?, seconds(row, "unchanged")?);
    Ok(Request { id: rows::text(row, "id")?, phase, age, unchanged })
}

fn job_of(row: &Row, release: &Release) -> Answer<SeenJob> {
    let process_type = rows::text(row, "type")?;
    let told: bool = row.try_get("told")?;
    let phase = match rows::parsed(row, "state")? {
        JobState::Pending | JobState::Blocked => JobPhase::Pending,
        JobState::Starting => JobPhase::Starting,
        JobState::Up => JobPhase::Up,
        JobState::Stopping => JobPhase::Told,
        JobState::Down | JobState::Crashed | JobState::Failed if told => JobPhase::Told,
        JobState::Down | JobState::Crashed | JobState::Failed => {
            ended(row, release.processes.get(&process_type))?
        }
    };
    Ok(SeenJob { process_type, phase, since: seconds(row, "since")? })
}

fn ended(row: &Row, process: Option<&controller_api::ProcessType>) -> Answer<JobPhase> {
    let up_for: Option<f64> = row.try_get("up_for")?;
    let end = End {
        host_error: row.try_get("host_error")?,
        exit_status: row.try_get("exit_status")?,
        lasted: up_for.or(row.try_get("ran_for")?),
        process,
    };
    Ok(JobPhase::Ended { was_up: up_for.is_some(), reason: words::of_end(&end) })
}

/// Clocks that were set back make no negative times.
fn seconds(row: &Row, column: &'static str) -> Answer<Duration> {
    let seconds: f64 = row.try_get(column)?;
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default())
}
