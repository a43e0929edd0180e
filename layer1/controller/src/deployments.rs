//! Deployments. What has nothing running before it is complete at once; replacing running jobs step by
//! step is the worker's, which is not part of this build, so such a deployment is refused, not queued
//! for nobody.

use axum::extract::{Path, State};
use controller_api::{
    Deployment, DeploymentEvent, DeploymentStatus, EventType, META_DEPLOY_BATCH_SIZE, Strategy,
};
use kit_http::{ApiError, Json};
use kit_ids::DeploymentId;
use kit_pg::Row;
use serde_json::Value;

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::server::Controller;
use crate::{apps, formations, releases, rows};

const COLUMNS: &str = "id::text AS id, app_id::text AS app_id, old_release_id::text AS old_release_id, \
     new_release_id::text AS new_release_id, strategy, status, processes, tags, deploy_timeout, \
     deploy_batch_size, created_at, finished_at";

/// `POST /apps/A/deploy`
pub(crate) async fn create(
    State(controller): State<Controller>,
    Path(app): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Deployment>> {
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let app = apps::find(change.tx(), &app).await?;
    let release = releases::named_in(change.tx(), body).await?;
    let (app_id, new) = (apps::id(&app)?, release.id.clone().ok_or(Failure::NotFound)?);
    if let Some(old) = &app.release {
        refuse_running(&change, app_id.as_str(), old.as_str()).await?;
    }
    releases::make_current(&mut change, &app, &release).await?;
    let query = format!(
        "INSERT INTO deployments (app_id, old_release_id, new_release_id, strategy, status, \
           deploy_timeout, deploy_batch_size, finished_at) \
         VALUES ($1::text::uuid, $2::text::uuid, $3::text::uuid, $4, 'complete', $5, $6, clock_timestamp()) \
         RETURNING {COLUMNS}"
    );
    let old = rows::text_of(app.release.as_ref());
    let strategy = app.strategy.unwrap_or(Strategy::AllAtOnce).as_str();
    let batch: Option<i32> =
        app.meta.get(META_DEPLOY_BATCH_SIZE).and_then(|size| size.parse().ok());
    let values: [&(dyn kit_pg::ToSql + Sync); 6] =
        [&app_id.as_str(), &old, &new.as_str(), &strategy, &app.deploy_timeout, &batch];
    let deployment = from_row(&change.tx().query_one(&query, &values).await?)?;
    let event = DeploymentEvent {
        app: Some(app_id.clone()),
        deployment: deployment.id.clone(),
        release: Some(new),
        status: Some(DeploymentStatus::Complete),
        ..DeploymentEvent::default()
    };
    let id = rows::text_of(deployment.id.as_ref()).unwrap_or_default();
    change.announce(Some(&app_id), EventType::Deployment, id, Op::Create, &event)?;
    change.commit().await?;
    Ok(Json(Deployment { deploy_batch_size: None, ..deployment }))
}

/// `GET /apps/A/deployments`
pub(crate) async fn list_of_app(
    State(controller): State<Controller>,
    Path(app): Path<String>,
) -> Answer<Json<Vec<Deployment>>> {
    let client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let query = format!(
        "SELECT {COLUMNS} FROM deployments WHERE app_id = $1::text::uuid ORDER BY created_at DESC"
    );
    let found = client.query(&query, &[&app.as_str()]).await?;
    Ok(Json(found.iter().map(from_row).collect::<Result<_, _>>()?))
}

/// `GET /deployments/:id`
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path(id): Path<String>,
) -> Answer<Json<Deployment>> {
    let id: DeploymentId = id.parse().map_err(|_| Failure::NotFound)?;
    let query = format!("SELECT {COLUMNS} FROM deployments WHERE id = $1::text::uuid");
    let found = controller.client().await?.query_opt(&query, &[&id.as_str()]).await?;
    found.as_ref().map_or(Err(Failure::NotFound), from_row).map(Json)
}

async fn refuse_running(change: &Change<'_>, app: &str, old: &str) -> Answer<()> {
    let row = formations::find_row(change.tx(), app, old).await?;
    let Some(row) = row else { return Ok(()) };
    let wanted = formations::from_row(&row)?.processes.unwrap_or_default();
    if wanted.values().all(|count| *count == 0) {
        return Ok(());
    }
    let text = "the app's current release has running processes and this controller has no worker to \
         replace them: set the new release, scale it up, then scale the old one down";
    Err(ApiError::precondition_failed(text).into())
}

fn from_row(row: &Row) -> Answer<Deployment> {
    Ok(Deployment {
        id: Some(rows::parsed(row, "id")?),
        app: Some(rows::parsed(row, "app_id")?),
        old_release: rows::maybe(row, "old_release_id")?,
        new_release: Some(rows::parsed(row, "new_release_id")?),
        strategy: rows::maybe(row, "strategy")?,
        status: rows::maybe(row, "status")?,
        processes: rows::json(row, "processes")?,
        tags: rows::json(row, "tags")?,
        deploy_timeout: row.try_get("deploy_timeout")?,
        deploy_batch_size: row.try_get("deploy_batch_size")?,
        created_at: rows::maybe_time(row, "created_at")?,
        finished_at: rows::maybe_time(row, "finished_at")?,
    })
}
