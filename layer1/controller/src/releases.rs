//! Releases: made once, never changed; which one an app runs; their deletion.

use axum::extract::{Path, State};
use controller_api::{App, AppRelease, EventType, ProcessType, Release, VolumeReq, with_defaults};
use kit_http::Json;
use kit_ids::{AppId, ReleaseId};
use kit_pg::{GenericClient, Json as Jsonb, Row};
use serde_json::Value;

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::server::Controller;
use crate::{apps, check, rows};

const SELECT: &str = "SELECT id::text AS id, app_id::text AS app_id, env, meta, processes, created_at, \
     ARRAY(SELECT artifact_id::text FROM release_artifacts \
           WHERE release_id = releases.id ORDER BY index) AS artifacts FROM releases";

/// Volumes of a process that only says that it has data.
const DATA_PATH: &str = "/data";

/// `POST /releases`
pub(crate) async fn create(
    State(controller): State<Controller>,
    Json(body): Json<Value>,
) -> Answer<Json<Release>> {
    let mut release: Release = check::read(check::object(body)?)?;
    check_env(&release)?;
    let app = release.app_id.clone();
    let app = app.ok_or_else(|| Failure::field("app_id", "must be the id of an app"))?;
    if let Some(only) = release.artifact.as_ref().filter(|_| release.artifacts.is_empty()) {
        release.artifacts = vec![only.clone()];
    }
    for process in release.processes.values_mut() {
        convert(process);
    }
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    apps::find_id(change.tx(), app.as_str()).await.map_err(|failure| match failure {
        Failure::NotFound => Failure::field("app_id", "must be the id of an app"),
        failure @ Failure::Api(_) => failure,
    })?;
    let release = insert(&change, release, &app).await?;
    let id = release.id.clone().ok_or(Failure::NotFound)?;
    change.announce(Some(&app), EventType::Release, &id, Op::Create, &release)?;
    change.commit().await?;
    Ok(Json(release))
}

/// `GET /releases`
pub(crate) async fn list(State(controller): State<Controller>) -> Answer<Json<Vec<Release>>> {
    let query = format!("{SELECT} WHERE deleted_at IS NULL ORDER BY created_at DESC");
    let found = controller.client().await?.query(&query, &[]).await?;
    Ok(Json(found.iter().map(from_row).collect::<Result<_, _>>()?))
}

/// `GET /releases/:id`
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path(id): Path<String>,
) -> Answer<Json<Release>> {
    find(&controller.client().await?, &id).await.map(Json)
}

/// `GET /apps/A/releases`
pub(crate) async fn list_of_app(
    State(controller): State<Controller>,
    Path(app): Path<String>,
) -> Answer<Json<Vec<Release>>> {
    let client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    of_app(&client, &app).await.map(Json)
}

/// The living releases of an app, the newest first.
pub(crate) async fn of_app(db: &impl GenericClient, app: &AppId) -> Answer<Vec<Release>> {
    let query = format!(
        "{SELECT} WHERE deleted_at IS NULL AND app_id = $1::text::uuid ORDER BY created_at DESC"
    );
    db.query(&query, &[&app.as_str()]).await?.iter().map(from_row).collect()
}

/// `GET /apps/A/release`
pub(crate) async fn current(
    State(controller): State<Controller>,
    Path(app): Path<String>,
) -> Answer<Json<Release>> {
    let client = controller.client().await?;
    let app = apps::find(&client, &app).await?;
    let current = app.release.ok_or(Failure::NotFound)?;
    find(&client, current.as_str()).await.map(Json)
}

/// `PUT /apps/A/release`
pub(crate) async fn set_current(
    State(controller): State<Controller>,
    Path(app): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Release>> {
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let app = apps::find(change.tx(), &app).await?;
    let release = named_in(change.tx(), body).await?;
    make_current(&mut change, &app, &release).await?;
    change.commit().await?;
    Ok(Json(release))
}

/// A living release; a text that is no id names none.
pub(crate) async fn find(db: &impl GenericClient, id: &str) -> Answer<Release> {
    let id: ReleaseId = id.parse().map_err(|_| Failure::NotFound)?;
    let query = format!("{SELECT} WHERE deleted_at IS NULL AND id = $1::text::uuid");
    let found = db.query_opt(&query, &[&id.as_str()]).await?;
    found.as_ref().map_or(Err(Failure::NotFound), from_row)
}

/// A release, deleted ones too: their jobs may still have to be stopped.
pub(crate) async fn find_any(db: &impl GenericClient, id: &str) -> Answer<Release> {
    let found = db.query_opt(&format!("{SELECT} WHERE id = $1::text::uuid"), &[&id]).await?;
    found.as_ref().map_or(Err(Failure::NotFound), from_row)
}

/// The release that a body of the form `{"id": …}` names.
pub(crate) async fn named_in(db: &impl GenericClient, body: Value) -> Answer<Release> {
    let body = check::object(body)?;
    let id = match body.get("id") {
        None | Some(Value::Null) => "",
        Some(Value::String(id)) => id.as_str(),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(kit_http::ApiError::syntax().into());
        }
    };
    find(db, id).await.map_err(|failure| match failure {
        Failure::NotFound => Failure::invalid(format!("could not find release with ID {id}")),
        failure @ Failure::Api(_) => failure,
    })
}

/// Makes a release the one an app runs.
pub(crate) async fn make_current(
    change: &mut Change<'_>,
    app: &App,
    release: &Release,
) -> Answer<()> {
    let (app_id, id) = (apps::id(app)?, release.id.clone().ok_or(Failure::NotFound)?);
    let query =
        "UPDATE apps SET release_id = $2::text::uuid, updated_at = now() WHERE id = $1::text::uuid";
    change.tx().execute(query, &[&app_id.as_str(), &id.as_str()]).await?;
    let prev_release = match &app.release {
        Some(previous) => find(change.tx(), previous.as_str()).await.ok(),
        None => None,
    };
    let data = AppRelease { prev_release, release: Some(release.clone()) };
    change.announce(Some(&app_id), EventType::AppRelease, &id, Op::Other, &data)
}

pub(crate) fn from_row(row: &Row) -> Answer<Release> {
    let artifacts: Vec<String> = row.try_get("artifacts")?;
    let artifacts: Vec<_> = artifacts.iter().filter_map(|id| id.parse().ok()).collect();
    Ok(Release {
        id: Some(rows::parsed(row, "id")?),
        app_id: rows::maybe(row, "app_id")?,
        env: rows::json(row, "env")?,
        meta: rows::json(row, "meta")?,
        processes: rows::json(row, "processes")?,
        created_at: rows::maybe_time(row, "created_at")?,
        artifact: artifacts.first().cloned(),
        artifacts,
    })
}

async fn insert(change: &Change<'_>, release: Release, app: &AppId) -> Answer<Release> {
    let query = "INSERT INTO releases (id, app_id, env, meta, processes) \
         VALUES (coalesce($1::text::uuid, gen_random_uuid()), $2::text::uuid, $3, $4, $5) \
         RETURNING id::text AS id, created_at";
    let id = rows::text_of(release.id.as_ref());
    let (env, meta) = (Jsonb(&release.env), Jsonb(&release.meta));
    let processes = Jsonb(&release.processes);
    let row = change.tx().query_one(query, &[&id, &app.as_str(), &env, &meta, &processes]).await?;
    let id: ReleaseId = rows::parsed(&row, "id")?;
    let link = "INSERT INTO release_artifacts (release_id, artifact_id, index) \
         SELECT $1::text::uuid, artifact::uuid, position - 1 \
         FROM unnest($2::text[]) WITH ORDINALITY AS given (artifact, position)";
    change.tx().execute(link, &[&id.as_str(), &rows::texts(&release.artifacts)]).await?;
    Ok(Release { id: Some(id), created_at: rows::maybe_time(&row, "created_at")?, ..release })
}

fn check_env(release: &Release) -> Answer<()> {
    let own = release.processes.values().map(|process| &process.env);
    let empty = std::iter::once(&release.env).chain(own).find_map(|env| env.get(""));
    match empty {
        Some(value) => Err(Failure::field(
            "env",
            format!("you can't create an env var with an empty key (tried to set \"\"={value:?})"),
        )),
        None => Ok(()),
    }
}

/// Deprecated fields mean what they always meant; limits are filled in.
fn convert(process: &mut ProcessType) {
    if process.args.is_empty() {
        process.args = [process.entrypoint.clone(), process.cmd.clone()].concat();
    }
    if process.data && process.volumes.is_empty() {
        process.volumes = vec![VolumeReq { path: DATA_PATH.to_owned(), delete_on_stop: false }];
        process.data = false;
    }
    process.resources = with_defaults(std::mem::take(&mut process.resources));
}
