//! Deployments. What has nothing running before it is complete at once; replacing running jobs step by
//! step is the worker's, for which the deployment is put into the queue.

use axum::extract::{Path, State};
use controller_api::{
    App, Deployment, DeploymentEvent, DeploymentStatus, EventType, Formation,
    META_DEPLOY_BATCH_SIZE, Release, Strategy,
};
use kit_http::Json;
use kit_ids::DeploymentId;
use kit_pg::{GenericClient, Json as Jsonb, PgError, Row};
use serde_json::Value;

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::queue::{self, Task};
use crate::server::Controller;
use crate::{apps, formations, releases, rows};

const COLUMNS: &str = "id::text AS id, app_id::text AS app_id, old_release_id::text AS old_release_id, \
     new_release_id::text AS new_release_id, strategy, status, processes, tags, deploy_timeout, \
     deploy_batch_size, created_at, finished_at, failure, proven";

/// `POST /apps/A/deploy`
pub(crate) async fn create(
    State(controller): State<Controller>,
    Path(app): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Deployment>> {
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let app = apps::find(change.tx(), &app).await?;
    let app = lock(&change, &app).await?;
    let release = releases::named_in(change.tx(), body).await?;
    refuse_a_second(&change, &app).await?;
    let running = running_formation(&change, &app).await?;
    let deployment = match running {
        None => begin(&mut change, &app, &release, None).await?,
        Some(running) => {
            formations::deployable(&release)?;
            begin(&mut change, &app, &release, Some(running)).await?
        }
    };
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
    let row = find_row(&controller.client().await?, &id).await?;
    from_row(&row).map(Json)
}

/// A deployment's row, with what only the worker looks at.
pub(crate) async fn find_row(db: &impl GenericClient, id: &DeploymentId) -> Answer<Row> {
    let query = format!("SELECT {COLUMNS} FROM deployments WHERE id = $1::text::uuid");
    db.query_opt(&query, &[&id.as_str()]).await?.ok_or(Failure::NotFound)
}

pub(crate) fn from_row(row: &Row) -> Answer<Deployment> {
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

/// Ends a deployment: its row and the event that tells of it.
pub(crate) async fn end(
    change: &mut Change<'_>,
    deployment: &Deployment,
    status: DeploymentStatus,
    error: &str,
) -> Answer<()> {
    let id = rows::text_of(deployment.id.as_ref()).unwrap_or_default();
    let query = "UPDATE deployments SET status = $2, finished_at = clock_timestamp() \
         WHERE id = $1::text::uuid AND finished_at IS NULL";
    change.tx().execute(query, &[&id, &status.as_str()]).await?;
    tell(change, deployment, status, Op::Update, error)
}

/// Two deployments of an app begin one after the other. What the app is may have changed until the
/// lock was had.
async fn lock(change: &Change<'_>, app: &App) -> Answer<App> {
    let id = apps::id(app)?;
    let query = "SELECT 1 FROM apps WHERE id = $1::text::uuid FOR UPDATE";
    change.tx().execute(query, &[&id.as_str()]).await?;
    apps::find(change.tx(), id.as_str()).await
}

async fn refuse_a_second(change: &Change<'_>, app: &App) -> Answer<()> {
    let query = "SELECT 1 FROM deployments WHERE app_id = $1::text::uuid AND finished_at IS NULL";
    match change.tx().query_opt(query, &[&apps::id(app)?.as_str()]).await? {
        None => Ok(()),
        Some(_) => Err(already_one()),
    }
}

fn already_one() -> Failure {
    Failure::invalid("Cannot create deploy, there is already one in progress for this app.")
}

/// The formation of the app's current release, if it wants any jobs.
async fn running_formation(change: &Change<'_>, app: &App) -> Answer<Option<Formation>> {
    let Some(old) = &app.release else { return Ok(None) };
    let row = formations::find_row(change.tx(), apps::id(app)?.as_str(), old.as_str()).await?;
    let Some(row) = row else { return Ok(None) };
    if rows::maybe_time(&row, "deleted_at")?.is_some() {
        return Ok(None);
    }
    let formation = formations::from_row(&row)?;
    let wants_jobs = formation.processes.iter().flatten().any(|(_, count)| *count > 0);
    Ok(wants_jobs.then_some(formation))
}

/// Makes the deployment: over when nothing runs, to be carried out otherwise.
async fn begin(
    change: &mut Change<'_>,
    app: &App,
    release: &Release,
    running: Option<Formation>,
) -> Answer<Deployment> {
    let status = match &running {
        None => DeploymentStatus::Complete,
        Some(_) => DeploymentStatus::Pending,
    };
    if running.is_none() {
        releases::make_current(change, app, release).await?;
    }
    let deployment = insert(change, app, release, running.as_ref(), status).await?;
    tell(change, &deployment, status, Op::Create, "")?;
    if let (Some(id), DeploymentStatus::Pending) = (&deployment.id, status) {
        queue::add(change, &Task::Deployment { id: id.clone() }).await?;
    }
    Ok(deployment)
}

async fn insert(
    change: &Change<'_>,
    app: &App,
    release: &Release,
    running: Option<&Formation>,
    status: DeploymentStatus,
) -> Answer<Deployment> {
    let query = format!(
        "INSERT INTO deployments (app_id, old_release_id, new_release_id, strategy, status, \
           deploy_timeout, deploy_batch_size, processes, tags, finished_at) \
         VALUES ($1::text::uuid, $2::text::uuid, $3::text::uuid, $4, $5, $6, $7, $8, $9, \
           CASE WHEN $5 = 'complete' THEN clock_timestamp() END) RETURNING {COLUMNS}"
    );
    let (app_id, old) = (apps::id(app)?, rows::text_of(app.release.as_ref()));
    let new = release.id.clone().ok_or(Failure::NotFound)?;
    let strategy = app.strategy.unwrap_or(Strategy::AllAtOnce).as_str();
    let batch: Option<i32> =
        app.meta.get(META_DEPLOY_BATCH_SIZE).and_then(|size| size.parse().ok());
    let processes = running.and_then(|formation| formation.processes.as_ref()).map(Jsonb);
    let tags = running.and_then(|formation| formation.tags.as_ref()).map(Jsonb);
    let values: [&(dyn kit_pg::ToSql + Sync); 9] = [
        &app_id.as_str(),
        &old,
        &new.as_str(),
        &strategy,
        &status.as_str(),
        &app.deploy_timeout,
        &batch,
        &processes,
        &tags,
    ];
    match change.tx().query_one(&query, &values).await.map_err(PgError::from) {
        Ok(row) => from_row(&row),
        Err(PgError::Unique { constraint }) if constraint == "deployments_unfinished" => {
            Err(already_one())
        }
        Err(error) => Err(error.into()),
    }
}

fn tell(
    change: &mut Change<'_>,
    deployment: &Deployment,
    status: DeploymentStatus,
    op: Op,
    error: &str,
) -> Answer<()> {
    let event = DeploymentEvent {
        app: deployment.app.clone(),
        deployment: deployment.id.clone(),
        release: deployment.new_release.clone(),
        status: Some(status),
        error: error.to_owned(),
        ..DeploymentEvent::default()
    };
    let id = rows::text_of(deployment.id.as_ref()).unwrap_or_default();
    change.announce(deployment.app.as_ref(), EventType::Deployment, id, op, &event)
}
