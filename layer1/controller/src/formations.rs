//! Formations: how many jobs of each type of a release are wanted. They change only through scale
//! requests (scaling.rs).

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use controller_api::{ExpandedFormation, Formation, Release, ScaleRequest};
use http::HeaderMap;
use kit_http::{Json, Query};
use kit_ids::AppId;
use kit_pg::{GenericClient, Row};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::{Answer, Failure};
use crate::server::Controller;
use crate::{apps, artifacts, check, formation_stream, releases, rows, scaling};

const COLUMNS: &str = "app_id::text AS app_id, release_id::text AS release_id, processes, tags, created_at, \
     updated_at, deleted_at";

/// `PUT /apps/A/formations/:rel`
pub(crate) async fn put(
    State(controller): State<Controller>,
    Path((app, release)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Answer<Json<Formation>> {
    let body = check::object(body)?;
    check::counts(&body, "processes")?;
    let wanted: Formation = check::read(body)?;
    let mut client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let release = releases::find(&client, &release).await?;
    deployable(&release)?;
    let none = || release.processes.keys().map(|kind| (kind.clone(), 0)).collect();
    let processes = wanted.processes.unwrap_or_else(none);
    let request = ScaleRequest::pending(Some(processes.clone()), wanted.tags.clone());
    let made = scaling::add(&mut client, &app, &release, request, scaling::Kind::Scale).await?;
    Ok(Json(Formation {
        app: Some(app),
        release: release.id,
        processes: Some(processes),
        tags: wanted.tags,
        created_at: made.created_at,
        updated_at: made.updated_at,
    }))
}

#[derive(Deserialize)]
pub(crate) struct Expand {
    expand: Option<String>,
}

/// `GET /apps/A/formations/:rel`
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path((app, release)): Path<(String, String)>,
    Query(query): Query<Expand>,
) -> Answer<Response> {
    let mut client = controller.client().await?;
    let client = kit_pg::snapshot(&mut client).await?;
    let app = apps::find_id(&client, &app).await?;
    let row = find_row(&client, app.as_str(), &release).await?.ok_or(Failure::NotFound)?;
    if rows::maybe_time(&row, "deleted_at")?.is_some() {
        return Err(Failure::NotFound);
    }
    if query.expand.as_deref() == Some("true") {
        return Ok(Json(expand(&client, &row).await?).into_response());
    }
    Ok(Json(from_row(&row)?).into_response())
}

/// `DELETE /apps/A/formations/:rel`
pub(crate) async fn delete(
    State(controller): State<Controller>,
    Path((app, release)): Path<(String, String)>,
) -> Answer<()> {
    let mut client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let row = find_row(&client, app.as_str(), &release).await?.ok_or(Failure::NotFound)?;
    if rows::maybe_time(&row, "deleted_at")?.is_some() {
        return Err(Failure::NotFound);
    }
    let release = releases::find(&client, &release).await?;
    let current = from_row(&row)?.processes.unwrap_or_default();
    let zero = current.into_keys().map(|kind| (kind, 0)).collect();
    let request = ScaleRequest::pending(Some(zero), None);
    scaling::add(&mut client, &app, &release, request, scaling::Kind::Delete).await?;
    Ok(())
}

/// `GET /apps/A/formations`
pub(crate) async fn list_of_app(
    State(controller): State<Controller>,
    Path(app): Path<String>,
) -> Answer<Json<Vec<Formation>>> {
    let client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    of_app(&client, &app).await.map(Json)
}

/// The living formations of an app, the newest first.
pub(crate) async fn of_app(db: &impl GenericClient, app: &AppId) -> Answer<Vec<Formation>> {
    let query = format!(
        "SELECT {COLUMNS} FROM formations WHERE app_id = $1::text::uuid AND deleted_at IS NULL \
         ORDER BY created_at DESC"
    );
    db.query(&query, &[&app.as_str()]).await?.iter().map(from_row).collect()
}

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    active: Option<String>,
    since: Option<String>,
}

/// `GET /formations`: those with wanted jobs, or a stream of changes.
pub(crate) async fn list(
    State(controller): State<Controller>,
    headers: HeaderMap,
    Query(query): Query<ListQuery>,
) -> Answer<Response> {
    if kit_http::wants_sse(&headers) {
        let since = query.since.unwrap_or_default();
        return Ok(formation_stream::respond(&controller, &since));
    }
    if query.active.as_deref() != Some("true") {
        return Err(Failure::invalid("must either request a stream or only active formations"));
    }
    let mut client = controller.client().await?;
    let client = kit_pg::snapshot(&mut client).await?;
    let query = format!(
        "SELECT {COLUMNS} FROM formations WHERE deleted_at IS NULL AND processes IS NOT NULL AND \
         (SELECT coalesce(sum(value::int), 0) FROM jsonb_each_text(processes)) > 0 \
         ORDER BY updated_at DESC"
    );
    let found = client.query(&query, &[]).await?;
    Ok(Json(expand_all(&client, &found).await?).into_response())
}

/// Whether a release can run at all.
pub(crate) fn deployable(release: &Release) -> Answer<()> {
    if release.artifacts.is_empty() {
        return Err(Failure::invalid("release is not deployable"));
    }
    Ok(())
}

/// Living formations changed at or after a time, the latest first.
pub(crate) async fn changed_since(
    db: &impl GenericClient,
    since: controller_api::Timestamp,
) -> Answer<Vec<ExpandedFormation>> {
    let query = format!(
        "SELECT {COLUMNS} FROM formations WHERE deleted_at IS NULL AND updated_at >= $1 \
         ORDER BY updated_at DESC"
    );
    expand_all(db, &db.query(&query, &[&since.0]).await?).await
}

/// A formation as it is now, deleted ones included; none when there never was one.
pub(crate) async fn expanded(
    db: &impl GenericClient,
    app: &str,
    release: &str,
) -> Answer<Option<ExpandedFormation>> {
    match find_row(db, app, release).await? {
        Some(row) => expand(db, &row).await.map(Some),
        None => Ok(None),
    }
}

/// A formation's row, deleted ones included.
pub(crate) async fn find_row(
    db: &impl GenericClient,
    app: &str,
    release: &str,
) -> Answer<Option<Row>> {
    if !kit_ids::is_uuid(release) {
        return Ok(None);
    }
    let query = format!(
        "SELECT {COLUMNS} FROM formations \
         WHERE app_id = $1::text::uuid AND release_id = $2::text::uuid"
    );
    Ok(db.query_opt(&query, &[&app, &release]).await?)
}

pub(crate) fn from_row(row: &Row) -> Answer<Formation> {
    Ok(Formation {
        app: Some(rows::parsed(row, "app_id")?),
        release: Some(rows::parsed(row, "release_id")?),
        processes: rows::maybe_json(row, "processes")?,
        tags: rows::maybe_json(row, "tags")?,
        created_at: rows::maybe_time(row, "created_at")?,
        updated_at: rows::maybe_time(row, "updated_at")?,
    })
}

async fn expand_all(db: &impl GenericClient, found: &[Row]) -> Answer<Vec<ExpandedFormation>> {
    let mut expanded = Vec::with_capacity(found.len());
    for row in found {
        expanded.push(expand(db, row).await?);
    }
    Ok(expanded)
}

/// With app, release and artifacts, which may be deleted while jobs of the formation still run. The
/// queries belong together: `db` is a snapshot.
async fn expand(db: &impl GenericClient, row: &Row) -> Answer<ExpandedFormation> {
    let formation = from_row(row)?;
    let (app, release) = (rows::text(row, "app_id")?, rows::text(row, "release_id")?);
    let query = format!("SELECT {} FROM apps WHERE id = $1::text::uuid", apps::COLUMNS);
    let app_row = db.query_one(&query, &[&app]).await?;
    Ok(ExpandedFormation {
        app: Some(apps::from_row(&app_row)?),
        release: Some(releases::find_any(db, &release).await?),
        artifacts: artifacts::of_release(db, &release).await?,
        processes: formation.processes.unwrap_or_default(),
        tags: formation.tags.unwrap_or_default(),
        updated_at: rows::time(row, "updated_at")?,
        deleted: rows::maybe_time(row, "deleted_at")?.is_some(),
        pending_scale_request: scaling::pending(db, &app, &release).await?,
    })
}
