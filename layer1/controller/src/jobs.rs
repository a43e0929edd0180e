//! Jobs as records: the scheduler writes them, everybody reads them. Starting one-off jobs is run.rs.

use axum::extract::{Path, State};
use controller_api::{EventType, Job, JobState, JobUuid};
use http::HeaderMap;
use kit_http::Json;
use kit_ids::JobId;
use kit_pg::{GenericClient, Json as Jsonb, Row};
use serde_json::Value;

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::server::Controller;
use crate::{apps, check, rows, turns};

const COLUMNS: &str = "cluster_id, uuid::text AS uuid, host_id, app_id::text AS app_id, \
     release_id::text AS release_id, type, state, args, volumes, meta, exit_status, host_error, run_at, \
     restarts, created_at, updated_at";

/// Of an app's jobs a list holds those that are active and, up to so many, the newest.
const MAX_LISTED: i64 = 1000;

/// Jobs that are not over.
const IS_ACTIVE: &str = "state IN ('pending', 'starting', 'up', 'stopping')";

/// The states that can be recorded: a blocked job stays pending on record.
const RECORDED: [&str; 7] = ["pending", "starting", "up", "stopping", "down", "crashed", "failed"];

/// `PUT /apps/X/jobs/:id`: the body counts, not the path.
pub(crate) async fn put(
    State(controller): State<Controller>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer<Json<Job>> {
    let body = check::object(body)?;
    check::one_of(&body, "state", &RECORDED)?;
    let job: Job = check::read(body)?;
    let uuid = job.uuid.clone().ok_or_else(|| Failure::field("uuid", "must be the job's id"))?;
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    turns::check(&change, &headers).await?;
    let job = upsert(&change, job, &uuid).await?;
    let state = job.state.map_or("", JobState::as_str);
    change.announce(job.app.as_ref(), EventType::Job, &uuid, Op::Other, &job)?;
    change.at_most_once(format!("{uuid}|{state}"));
    change.commit().await?;
    Ok(Json(job))
}

/// `GET /apps/A/jobs`
pub(crate) async fn list_of_app(
    State(controller): State<Controller>,
    Path(app): Path<String>,
) -> Answer<Json<Vec<Job>>> {
    let client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let query = format!(
        "SELECT {COLUMNS} FROM jobs WHERE uuid IN ( \
           SELECT uuid FROM jobs WHERE app_id = $1::text::uuid AND {IS_ACTIVE} UNION \
           (SELECT uuid FROM jobs WHERE app_id = $1::text::uuid ORDER BY created_at DESC LIMIT $2)) \
         ORDER BY created_at DESC"
    );
    let found = client.query(&query, &[&app.as_str(), &MAX_LISTED]).await?;
    Ok(Json(found.iter().map(from_row).collect::<Result<_, _>>()?))
}

/// `GET /apps/X/jobs/:id`: by either of its ids; the app is not looked at.
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path((_, id)): Path<(String, String)>,
) -> Answer<Json<Job>> {
    find(&controller.client().await?, &id).await.map(Json)
}

/// `GET /active-jobs`
pub(crate) async fn list_active(State(controller): State<Controller>) -> Answer<Json<Vec<Job>>> {
    let query = format!("SELECT {COLUMNS} FROM jobs WHERE {IS_ACTIVE} ORDER BY updated_at DESC");
    let found = controller.client().await?.query(&query, &[]).await?;
    Ok(Json(found.iter().map(from_row).collect::<Result<_, _>>()?))
}

/// A job by its UUID, or by its id on a host.
pub(crate) async fn find(db: &impl GenericClient, id: &str) -> Answer<Job> {
    let uuid = id.parse::<JobUuid>().ok().or_else(|| {
        let id: JobId = id.parse().ok()?;
        JobUuid::try_from(&id).ok()
    });
    let uuid = uuid.ok_or(Failure::NotFound)?;
    let query = format!("SELECT {COLUMNS} FROM jobs WHERE uuid = $1::text::uuid");
    let found = db.query_opt(&query, &[&uuid.as_str()]).await?;
    found.as_ref().map_or(Err(Failure::NotFound), from_row)
}

/// App, release, type and meta are those of the first record. The answer is the body with both times.
async fn upsert(change: &Change<'_>, job: Job, uuid: &JobUuid) -> Answer<Job> {
    let query = "INSERT INTO jobs (uuid, cluster_id, host_id, app_id, release_id, type, state, args, volumes, \
           meta, exit_status, host_error, run_at, restarts) \
         VALUES ($1::text::uuid, $2, $3, $4::text::uuid, $5::text::uuid, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
         ON CONFLICT (uuid) DO UPDATE SET cluster_id = $2, host_id = $3, state = $7, args = $8, volumes = $9, \
           exit_status = $11, host_error = $12, run_at = $13, restarts = $14, updated_at = now() \
         RETURNING created_at, updated_at";
    let required = |field: &str| Failure::field(field, "must be an id");
    let app = rows::text_of(job.app.as_ref()).ok_or_else(|| required("app"))?;
    let release = rows::text_of(job.release.as_ref()).ok_or_else(|| required("release"))?;
    let state =
        job.state.ok_or_else(|| Failure::field("state", "must be the job's state"))?.as_str();
    let (cluster, host) = (rows::text_of(job.id.as_ref()), rows::text_of(job.host_id.as_ref()));
    let run_at = job.run_at.map(|at| at.0);
    let (args, volumes, meta) = (Jsonb(&job.args), Jsonb(&job.volumes), Jsonb(&job.meta));
    let values: [&(dyn kit_pg::ToSql + Sync); 14] = [
        &uuid.as_str(),
        &cluster,
        &host,
        &app,
        &release,
        &job.process_type,
        &state,
        &args,
        &volumes,
        &meta,
        &job.exit_status,
        &job.host_error,
        &run_at,
        &job.restarts,
    ];
    let row = change.tx().query_one(query, &values).await?;
    let created_at = rows::maybe_time(&row, "created_at")?;
    Ok(Job { created_at, updated_at: rows::maybe_time(&row, "updated_at")?, ..job })
}

fn from_row(row: &Row) -> Answer<Job> {
    Ok(Job {
        id: rows::maybe(row, "cluster_id")?,
        uuid: Some(rows::parsed(row, "uuid")?),
        host_id: rows::maybe(row, "host_id")?,
        app: Some(rows::parsed(row, "app_id")?),
        release: Some(rows::parsed(row, "release_id")?),
        process_type: rows::text(row, "type")?,
        state: rows::maybe(row, "state")?,
        args: rows::json(row, "args")?,
        volumes: rows::json(row, "volumes")?,
        meta: rows::json(row, "meta")?,
        exit_status: row.try_get("exit_status")?,
        host_error: row.try_get("host_error")?,
        run_at: rows::maybe_time(row, "run_at")?,
        restarts: row.try_get("restarts")?,
        created_at: rows::maybe_time(row, "created_at")?,
        updated_at: rows::maybe_time(row, "updated_at")?,
    })
}
