//! Apps: made, listed, changed in part. Their deletion is app_deletion.rs.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use controller_api::{App, EventType, META_GC_MAX_INACTIVE, Route, Strategy};
use kit_http::Json;
use kit_ids::AppId;
use kit_pg::{GenericClient, Json as Jsonb, Row};
use serde_json::Value;

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::server::Controller;
use crate::{app_names, check, routes, rows};

/// Inactive releases made by a push that are kept unless an app says otherwise.
const DEFAULT_GC_MAX: &str = "10";
/// Seconds one step of a deployment may take unless an app says otherwise.
const DEFAULT_DEPLOY_TIMEOUT: i32 = 120;

pub(crate) const COLUMNS: &str = "id::text AS id, name, meta, strategy, release_id::text AS release_id, \
     deploy_timeout, created_at, updated_at";

/// `POST /apps`
pub(crate) async fn create(
    State(controller): State<Controller>,
    Json(body): Json<Value>,
) -> Answer<Json<App>> {
    let body = check::object(body)?;
    check::app_name(&body)?;
    check::strategy(&body)?;
    let mut app: App = check::read(body)?;
    let mut client = controller.client().await?;
    fill_in(&mut app, &client).await?;
    let mut change = Change::begin(&mut client).await?;
    let app = insert(&change, app).await?;
    change.announce(app.id.as_ref(), EventType::App, id(&app)?, Op::Create, &app)?;
    change.commit().await?;
    // The route takes a connection of its own; two at a time could starve the pool.
    drop(client);
    add_default_route(&controller, &app).await;
    Ok(Json(app))
}

/// `GET /apps`
pub(crate) async fn list(State(controller): State<Controller>) -> Answer<Json<Vec<App>>> {
    let query =
        format!("SELECT {COLUMNS} FROM apps WHERE deleted_at IS NULL ORDER BY created_at DESC");
    let found = controller.client().await?.query(&query, &[]).await?;
    Ok(Json(found.iter().map(from_row).collect::<Result<_, _>>()?))
}

/// `GET /apps/A`
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path(app): Path<String>,
) -> Answer<Json<App>> {
    find(&controller.client().await?, &app).await.map(Json)
}

/// `POST /apps/A`: the body is looked at before the app.
pub(crate) async fn update(
    State(controller): State<Controller>,
    Path(app): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<App>> {
    let changes = Changes::read(body)?;
    apply(&controller, &app, changes).await.map(Json)
}

/// `POST /apps/A/meta`: the app is looked up before the body is looked at.
pub(crate) async fn update_meta(
    State(controller): State<Controller>,
    Path(app): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<App>> {
    find(&controller.client().await?, &app).await?;
    apply(&controller, &app, Changes::read(body)?).await.map(Json)
}

/// A living app by id or name.
pub(crate) async fn find(db: &impl GenericClient, id_or_name: &str) -> Answer<App> {
    let query = format!(
        "SELECT {COLUMNS} FROM apps WHERE deleted_at IS NULL \
         AND (name = $1 OR id = $2::text::uuid) ORDER BY name = $1 LIMIT 1"
    );
    if id_or_name.contains('\0') {
        return Err(Failure::NotFound);
    }
    let found = db.query_opt(&query, &[&id_or_name, &rows::uuid_form(id_or_name)]).await?;
    found.as_ref().map_or(Err(Failure::NotFound), from_row)
}

/// The id of a living app by id or name.
pub(crate) async fn find_id(db: &impl GenericClient, id_or_name: &str) -> Answer<AppId> {
    id(&find(db, id_or_name).await?)
}

/// The id of a stored app.
pub(crate) fn id(app: &App) -> Answer<AppId> {
    app.id.clone().ok_or(Failure::NotFound)
}

pub(crate) fn from_row(row: &Row) -> Answer<App> {
    Ok(App {
        id: Some(rows::parsed(row, "id")?),
        name: rows::text(row, "name")?,
        meta: rows::json(row, "meta")?,
        strategy: rows::maybe(row, "strategy")?,
        release: rows::maybe(row, "release_id")?,
        deploy_timeout: row.try_get("deploy_timeout")?,
        created_at: rows::maybe_time(row, "created_at")?,
        updated_at: rows::maybe_time(row, "updated_at")?,
    })
}

async fn fill_in(app: &mut App, db: &impl GenericClient) -> Answer<()> {
    if app.name.is_empty() {
        app.name = app_names::unused(db).await?;
    }
    app.strategy.get_or_insert(Strategy::AllAtOnce);
    if app.deploy_timeout == 0 {
        app.deploy_timeout = DEFAULT_DEPLOY_TIMEOUT;
    }
    let keep = app.meta.entry(META_GC_MAX_INACTIVE.to_owned());
    keep.or_insert_with(|| DEFAULT_GC_MAX.to_owned());
    Ok(())
}

async fn insert(change: &Change<'_>, app: App) -> Answer<App> {
    let query = "INSERT INTO apps (id, name, meta, strategy, deploy_timeout) \
         VALUES (coalesce($1::text::uuid, gen_random_uuid()), $2, $3, $4, $5) \
         RETURNING id::text AS id, created_at, updated_at";
    let strategy = app.strategy.unwrap_or(Strategy::AllAtOnce).as_str();
    let id = rows::text_of(app.id.as_ref());
    let values: [&(dyn kit_pg::ToSql + Sync); 5] =
        [&id, &app.name, &Jsonb(&app.meta), &strategy, &app.deploy_timeout];
    let row = change.tx().query_one(query, &values).await.map_err(kit_pg::PgError::from);
    let row = match row {
        Err(kit_pg::PgError::Unique { constraint }) if constraint == "apps_name" => {
            let text = format!("application {:?} already exists", app.name);
            return Err(kit_http::ApiError::object_exists(text).into());
        }
        other => other?,
    };
    Ok(App {
        id: Some(rows::parsed(&row, "id")?),
        created_at: rows::maybe_time(&row, "created_at")?,
        updated_at: rows::maybe_time(&row, "updated_at")?,
        ..app
    })
}

/// The app can be reached at once under its name. A failure is logged and costs nothing else: the
/// route can be added by hand.
async fn add_default_route(controller: &Controller, app: &App) {
    let Some(domain) = controller.config().default_route_domain.as_deref() else { return };
    let (Some(id), false) = (&app.id, app.is_system()) else { return };
    let mut route = Route::http(&format!("{}.{domain}", app.name), &format!("{}-web", app.name));
    route.drain_backends = true;
    if let Err(error) = routes::create_for(controller, id, route).await {
        tracing::warn!(app = %app.name, ?error, "the app's default route could not be added");
    }
}

/// The parts of an app that can be changed.
struct Changes {
    meta: Option<BTreeMap<String, String>>,
    strategy: Option<Strategy>,
    deploy_timeout: Option<i32>,
}

impl Changes {
    /// Clients post whole apps: `meta: null` means "leave alone", `meta: {}` clears.
    fn read(body: Value) -> Answer<Self> {
        let mut body = check::object(body)?;
        if body.get("meta").is_some_and(Value::is_null) {
            body.remove("meta");
        }
        check::app_update(&body)?;
        body.retain(|key, _| ["meta", "strategy", "deploy_timeout"].contains(&key.as_str()));
        let has = |key: &str| body.contains_key(key);
        let (has_meta, has_timeout) = (has("meta"), has("deploy_timeout"));
        let app: App = check::read(body)?;
        Ok(Self {
            meta: has_meta.then_some(app.meta),
            strategy: app.strategy,
            deploy_timeout: has_timeout.then_some(app.deploy_timeout),
        })
    }

    fn is_empty(&self) -> bool {
        self.meta.is_none() && self.strategy.is_none() && self.deploy_timeout.is_none()
    }
}

/// The answer carries the time of the change before this one, as clients of the original saw it.
async fn apply(controller: &Controller, app: &str, changes: Changes) -> Answer<App> {
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let before = find(change.tx(), app).await?;
    let id = id(&before)?;
    let query = "UPDATE apps SET meta = coalesce($2, meta), strategy = coalesce($3, strategy), \
         deploy_timeout = coalesce($4, deploy_timeout), \
         updated_at = CASE WHEN $5 THEN updated_at ELSE now() END WHERE id = $1::text::uuid";
    let meta = changes.meta.as_ref().map(Jsonb);
    let strategy = changes.strategy.map(Strategy::as_str);
    let values: [&(dyn kit_pg::ToSql + Sync); 5] =
        [&id.as_str(), &meta, &strategy, &changes.deploy_timeout, &changes.is_empty()];
    change.tx().execute(query, &values).await?;
    let after = find(change.tx(), id.as_str()).await?;
    change.announce(Some(&id), EventType::App, &id, Op::Update, &after)?;
    change.commit().await?;
    Ok(App { updated_at: before.updated_at, ..after })
}
