//! Volumes as records: the scheduler writes them, people decommission them.

use axum::extract::{Path, State};
use controller_api::{EventType, Volume, VolumeState, VolumeType};
use kit_http::Json;
use kit_ids::VolumeId;
use kit_pg::{GenericClient, Json as Jsonb, Row};
use serde_json::Value;

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::server::Controller;
use crate::{apps, check, rows};

const SELECT: &str = "SELECT path, delete_on_stop, id::text AS id, host_id, type, state, app_id::text AS app_id, \
     release_id::text AS release_id, job_id::text AS job_id, job_type, meta, created_at, updated_at, \
     decommissioned_at FROM volumes";

/// `GET /volumes`
pub(crate) async fn list(State(controller): State<Controller>) -> Answer<Json<Vec<Volume>>> {
    let query = format!("{SELECT} ORDER BY updated_at DESC");
    let found = controller.client().await?.query(&query, &[]).await?;
    Ok(Json(found.iter().map(from_row).collect::<Result<_, _>>()?))
}

/// `GET /apps/A/volumes`
pub(crate) async fn list_of_app(
    State(controller): State<Controller>,
    Path(app): Path<String>,
) -> Answer<Json<Vec<Volume>>> {
    let client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let query = format!("{SELECT} WHERE app_id = $1::text::uuid ORDER BY updated_at DESC");
    let found = client.query(&query, &[&app.as_str()]).await?;
    Ok(Json(found.iter().map(from_row).collect::<Result<_, _>>()?))
}

/// `GET /apps/A/volumes/:id`
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path((app, id)): Path<(String, String)>,
) -> Answer<Json<Volume>> {
    let client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let id: VolumeId = id.parse().map_err(|_| Failure::NotFound)?;
    find_of(&client, app.as_str(), &id).await.map(Json)
}

/// `PUT /volumes/:id`: the body counts, not the path. The answer is the body with both times.
pub(crate) async fn put(
    State(controller): State<Controller>,
    Json(body): Json<Value>,
) -> Answer<Json<Volume>> {
    let body = check::object(body)?;
    check::always_one_of(&body, "type", &check::names(VolumeType::ALL, VolumeType::as_str))?;
    check::always_one_of(&body, "state", &check::names(VolumeState::ALL, VolumeState::as_str))?;
    let volume: Volume = check::read(body)?;
    let id = volume.id.clone().ok_or_else(|| Failure::field("id", "must be a UUID"))?;
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let volume = upsert(&change, volume, &id).await?;
    change.announce(volume.app.as_ref(), EventType::Volume, &id, Op::Other, &volume)?;
    change.commit().await?;
    Ok(Json(volume))
}

/// `PUT /apps/A/volumes/:id/decommission`: no new job gets the volume.
pub(crate) async fn decommission(
    State(controller): State<Controller>,
    Path((app, _)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Answer<Json<Volume>> {
    let posted: Volume = check::read(check::object(body)?)?;
    let id = posted.id.clone().ok_or_else(|| Failure::field("id", "must be a UUID"))?;
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let app = apps::find_id(change.tx(), &app).await?;
    let query = "UPDATE volumes SET decommissioned_at = now(), updated_at = now() \
         WHERE id = $1::text::uuid AND app_id = $2::text::uuid";
    if change.tx().execute(query, &[&id.as_str(), &app.as_str()]).await? == 0 {
        return Err(Failure::field("id", format!("{id} is no volume of this app")));
    }
    let stored = find_of(change.tx(), app.as_str(), &id).await?;
    change.announce(Some(&app), EventType::Volume, &id, Op::Other, &stored)?;
    change.commit().await?;
    let (updated_at, decommissioned_at) = (stored.updated_at, stored.decommissioned_at);
    Ok(Json(Volume { updated_at, decommissioned_at, ..posted }))
}

async fn find_of(db: &impl GenericClient, app: &str, id: &VolumeId) -> Answer<Volume> {
    let query = format!("{SELECT} WHERE app_id = $1::text::uuid AND id = $2::text::uuid");
    let found = db.query_opt(&query, &[&app, &id.as_str()]).await?;
    found.as_ref().map_or(Err(Failure::NotFound), from_row)
}

/// State and holder change; what the volume is stays.
async fn upsert(change: &Change<'_>, volume: Volume, id: &VolumeId) -> Answer<Volume> {
    let query = "INSERT INTO volumes (id, host_id, type, state, app_id, release_id, job_id, job_type, path, \
           delete_on_stop, meta) \
         VALUES ($1::text::uuid, $2, $3, $4, $5::text::uuid, $6::text::uuid, $7::text::uuid, $8, $9, $10, $11) \
         ON CONFLICT (id) DO UPDATE SET job_id = $7::text::uuid, state = $4, updated_at = now() \
         RETURNING created_at, updated_at";
    let required = |field: &str| Failure::field(field, "is required");
    let host = rows::text_of(volume.host_id.as_ref()).ok_or_else(|| required("host_id"))?;
    let kind = volume.kind.ok_or_else(|| required("type"))?.as_str();
    let state = volume.state.ok_or_else(|| required("state"))?.as_str();
    let (app, release) =
        (rows::text_of(volume.app.as_ref()), rows::text_of(volume.release.as_ref()));
    let (job, meta) = (rows::text_of(volume.job.as_ref()), Jsonb(&volume.meta));
    let values: [&(dyn kit_pg::ToSql + Sync); 11] = [
        &id.as_str(),
        &host,
        &kind,
        &state,
        &app,
        &release,
        &job,
        &volume.job_type,
        &volume.path,
        &volume.delete_on_stop,
        &meta,
    ];
    let row = change.tx().query_one(query, &values).await?;
    let created_at = rows::maybe_time(&row, "created_at")?;
    Ok(Volume { created_at, updated_at: rows::maybe_time(&row, "updated_at")?, ..volume })
}

fn from_row(row: &Row) -> Answer<Volume> {
    Ok(Volume {
        path: rows::text(row, "path")?,
        delete_on_stop: row.try_get("delete_on_stop")?,
        id: Some(rows::parsed(row, "id")?),
        host_id: rows::maybe(row, "host_id")?,
        kind: rows::maybe(row, "type")?,
        state: rows::maybe(row, "state")?,
        app: rows::maybe(row, "app_id")?,
        release: rows::maybe(row, "release_id")?,
        job: rows::maybe(row, "job_id")?,
        job_type: rows::text(row, "job_type")?,
        meta: rows::json(row, "meta")?,
        created_at: rows::maybe_time(row, "created_at")?,
        updated_at: rows::maybe_time(row, "updated_at")?,
        decommissioned_at: rows::maybe_time(row, "decommissioned_at")?,
    })
}
