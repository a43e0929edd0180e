//! Routes of apps: which domains, paths and ports lead to which services. Rules that need nothing but
//! the route are router-api's; here are those that need the other routes, and the storage.

use axum::extract::{Path, State};
use bytes::Bytes;
use controller_api::{EventType, Route, RouteKind};
use http::HeaderMap;
use kit_http::{ApiError, ErrorCode, Json};
use kit_ids::{AppId, RouteId};
use kit_pg::{GenericClient, PgError, Row};
use router_api::{RouteBodyError, RouteRefusal, TCP_PORTS, normal_path};

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::server::Controller;
use crate::{apps, certificates, rows};

const SELECT: &str = "SELECT routes.id::text AS id, type, parent_ref, service, port, leader, domain, path, \
     sticky, drain_backends, disable_keep_alives, routes.created_at, routes.updated_at, \
     certificates.id::text AS certificate_id, cert, key, certificates.created_at AS cert_created_at, \
     certificates.updated_at AS cert_updated_at \
     FROM routes LEFT JOIN certificates ON certificates.id = certificate_id";

/// What the owner of an app's routes is called.
const PARENT: &str = "controller/apps/";

/// `GET /routes`
pub(crate) async fn list(State(controller): State<Controller>) -> Answer<Json<Vec<Route>>> {
    let query = format!("{SELECT} WHERE deleted_at IS NULL ORDER BY routes.created_at DESC");
    let found = controller.client().await?.query(&query, &[]).await?;
    Ok(Json(found.iter().map(from_row).collect::<Result<_, _>>()?))
}

/// `GET /apps/A/routes`
pub(crate) async fn list_of_app(
    State(controller): State<Controller>,
    Path(app): Path<String>,
) -> Answer<Json<Vec<Route>>> {
    let client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let query = format!(
        "{SELECT} WHERE deleted_at IS NULL AND parent_ref = $1 ORDER BY routes.created_at DESC"
    );
    let found = client.query(&query, &[&parent(&app)]).await?;
    Ok(Json(found.iter().map(from_row).collect::<Result<_, _>>()?))
}

/// `POST /apps/A/routes`
pub(crate) async fn create(
    State(controller): State<Controller>,
    Path(app): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Json<Route>> {
    is_json(&headers)?;
    let app = apps::find_id(&controller.client().await?, &app).await?;
    let route = Route::from_create_body(&body).map_err(|error| body_error(&error))?;
    create_for(&controller, &app, route).await.map(Json)
}

/// `GET /apps/A/routes/:type/:id`
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path((app, kind, id)): Path<(String, String, String)>,
) -> Answer<Json<Route>> {
    let client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let (kind, id) = key(&kind, &id)?;
    find_of(&client, &app, kind, &id).await.map(Json)
}

/// `PUT /apps/A/routes/:type/:id`
pub(crate) async fn update(
    State(controller): State<Controller>,
    Path((app, kind, id)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Json<Route>> {
    is_json(&headers)?;
    let mut client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let (kind, id) = key(&kind, &id)?;
    let wanted =
        Route::from_update_body(&body, kind, id.clone()).map_err(|error| body_error(&error))?;
    let mut change = Change::begin(&mut client).await?;
    lock(&change).await?;
    let stored = find_of(change.tx(), &app, kind, &id).await?;
    let route = replace(&change, &app, &stored, wanted).await?;
    change.announce(Some(&app), EventType::Route, &id, Op::Update, &route)?;
    change.commit().await?;
    Ok(Json(route))
}

/// `DELETE /apps/A/routes/:type/:id`
pub(crate) async fn delete(
    State(controller): State<Controller>,
    Path((app, kind, id)): Path<(String, String, String)>,
) -> Answer<()> {
    let mut client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let (kind, id) = key(&kind, &id)?;
    let mut change = Change::begin(&mut client).await?;
    lock(&change).await?;
    let route = find_of(change.tx(), &app, kind, &id).await?;
    refuse_orphans(&change, &route).await?;
    let query = "UPDATE routes SET deleted_at = now() WHERE id = $1::text::uuid";
    change.tx().execute(query, &[&id.as_str()]).await?;
    change.announce(Some(&app), EventType::RouteDeletion, &id, Op::Other, &route)?;
    change.commit().await?;
    Ok(())
}

/// Adds a route to an app.
pub(crate) async fn create_for(
    controller: &Controller,
    app: &AppId,
    mut route: Route,
) -> Answer<Route> {
    route.parent_ref = parent(app);
    let asked = route.clone();
    let refused = |refusal: RouteRefusal| refuse(&refusal, &asked);
    route.check().map_err(refused)?;
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    lock(&change).await?;
    check_neighbours(&change, &mut route, None).await?.map_err(refused)?;
    route.certificate = match route.wanted_certificate() {
        Some(pair) => Some(certificates::store(&change, pair).await?),
        // An empty object counts as none, and is told back.
        None => route.certificate,
    };
    let stored = insert(&change, route).await?;
    let id = stored.id.clone().ok_or(Failure::NotFound)?;
    let told = find(change.tx(), &id).await?;
    change.announce(Some(app), EventType::Route, &id, Op::Create, &told)?;
    change.commit().await.map_err(|error| duplicate(error, &asked))?;
    Ok(stored)
}

/// Deletes all routes of an app; the answer names them.
pub(crate) async fn delete_all_of(controller: &Controller, app: &AppId) -> Answer<Vec<Route>> {
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    lock(&change).await?;
    let query = format!(
        "{SELECT} WHERE deleted_at IS NULL AND parent_ref = $1 ORDER BY routes.created_at DESC"
    );
    let found = change.tx().query(&query, &[&parent(app)]).await?;
    let found: Vec<Route> = found.iter().map(from_row).collect::<Result<_, _>>()?;
    let query = "UPDATE routes SET deleted_at = now() WHERE deleted_at IS NULL AND parent_ref = $1";
    change.tx().execute(query, &[&parent(app)]).await?;
    for route in &found {
        let id = rows::text_of(route.id.as_ref()).unwrap_or_default();
        change.announce(Some(app), EventType::RouteDeletion, id, Op::Other, route)?;
    }
    change.commit().await?;
    Ok(found)
}

/// Routes are few and rules between them many: one change at a time.
async fn lock(change: &Change<'_>) -> Answer<()> {
    change.tx().execute("SELECT pg_advisory_xact_lock(hashtextextended('routes', 0))", &[]).await?;
    Ok(())
}

/// The rules between a route and the living others; fills in path and port.
async fn check_neighbours(
    change: &Change<'_>,
    route: &mut Route,
    own_id: Option<&RouteId>,
) -> Answer<Result<(), RouteRefusal>> {
    let own = rows::text_of(own_id);
    let exists = async |condition: &str, values: &[&(dyn kit_pg::ToSql + Sync)]| -> Answer<bool> {
        let query = format!(
            "SELECT EXISTS (SELECT 1 FROM routes WHERE deleted_at IS NULL \
             AND ($1::text IS NULL OR id <> $1::text::uuid) AND {condition})"
        );
        let own: &(dyn kit_pg::ToSql + Sync) = &own;
        let values: Vec<_> = [own].into_iter().chain(values.iter().copied()).collect();
        Ok(change.tx().query_one(&query, &values).await?.try_get(0)?)
    };
    let differs = "type = 'http' AND service = $2 AND drain_backends <> $3";
    if exists(differs, &[&route.service, &route.drain_backends]).await? {
        return Ok(Err(RouteRefusal::Invalid(
            "routes of one service must agree on drain_backends",
        )));
    }
    match route.kind {
        RouteKind::Http => {
            route.path = match normal_path(&route.path) {
                Ok(path) => path,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let root = "type = 'http' AND domain = $2 AND path = '/'";
            if route.path != "/" && !exists(root, &[&route.domain]).await? {
                return Ok(Err(RouteRefusal::Invalid("a path needs a route for / of its domain")));
            }
            let same = "type = 'http' AND domain = $2 AND path = $3";
            let is_taken = exists(same, &[&route.domain, &route.path]).await?;
            Ok(if is_taken { Err(RouteRefusal::Duplicate) } else { Ok(()) })
        }
        RouteKind::Tcp => {
            let port = i32::try_from(route.port).unwrap_or_default();
            if port == 0 {
                route.port = free_port(change).await?;
                return Ok(Ok(()));
            }
            let is_taken = exists("type = 'tcp' AND port = $2", &[&port]).await?;
            Ok(if is_taken { Err(RouteRefusal::Duplicate) } else { Ok(()) })
        }
    }
}

/// The first port of the range that no route has. One that was freed comes last: old clients may still
/// try it.
async fn free_port(change: &Change<'_>) -> Answer<i64> {
    let query = "SELECT port FROM generate_series($1::int, $2::int) AS port \
         WHERE NOT EXISTS (SELECT 1 FROM routes WHERE type = 'tcp' AND routes.port = port.port \
           AND deleted_at IS NULL) \
         ORDER BY EXISTS (SELECT 1 FROM routes WHERE type = 'tcp' AND routes.port = port.port), port LIMIT 1";
    let (first, last) = (i32::from(*TCP_PORTS.start()), i32::from(*TCP_PORTS.end()));
    let found = change.tx().query_opt(query, &[&first, &last]).await?;
    let row = found.ok_or_else(|| ApiError::conflict("no free port is left for tcp routes"))?;
    Ok(i64::from(row.try_get::<_, i32>(0)?))
}

async fn refuse_orphans(change: &Change<'_>, route: &Route) -> Answer<()> {
    if route.kind != RouteKind::Http || route.path != "/" {
        return Ok(());
    }
    let query = "SELECT EXISTS (SELECT 1 FROM routes WHERE deleted_at IS NULL AND type = 'http' \
         AND domain = $1 AND path <> '/')";
    let has_paths: bool = change.tx().query_one(query, &[&route.domain]).await?.try_get(0)?;
    if has_paths { Err(refuse(&RouteRefusal::Dependents, route)) } else { Ok(()) }
}

/// Domain and draining stay; without a certificate in the body the stored one stays too.
async fn replace(change: &Change<'_>, app: &AppId, stored: &Route, wanted: Route) -> Answer<Route> {
    let asked = wanted.clone();
    if wanted.kind == RouteKind::Http && wanted.domain != stored.domain {
        return Err(Failure::NotFound);
    }
    let mut route = Route {
        parent_ref: parent(app),
        drain_backends: stored.drain_backends,
        created_at: stored.created_at,
        ..wanted
    };
    if route.kind == RouteKind::Tcp && route.port == 0 {
        route.port = stored.port;
    }
    route.check().map_err(|refusal| refuse(&refusal, &asked))?;
    let id = stored.id.clone().ok_or(Failure::NotFound)?;
    let checked = check_neighbours(change, &mut route, Some(&id)).await?;
    checked.map_err(|refusal| refuse(&refusal, &asked))?;
    if stored.path == "/" && route.path != "/" {
        refuse_orphans(change, stored).await?;
    }
    route.certificate = match route.wanted_certificate() {
        Some(pair) => Some(certificates::store(change, pair).await?),
        None => stored.certificate.clone(),
    };
    let certificate = certificate_id(&route);
    let port = i32::try_from(route.port).unwrap_or_default();
    let query = "UPDATE routes SET parent_ref = $2, service = $3, port = $4, leader = $5, sticky = $6, path = $7, \
           disable_keep_alives = $8, certificate_id = $9::text::uuid, updated_at = now() WHERE id = $1::text::uuid";
    let values: [&(dyn kit_pg::ToSql + Sync); 9] = [
        &id.as_str(),
        &route.parent_ref,
        &route.service,
        &port,
        &route.leader,
        &route.sticky,
        &route.path,
        &route.disable_keep_alives,
        &certificate,
    ];
    change.tx().execute(query, &values).await?;
    find(change.tx(), &id).await
}

async fn insert(change: &Change<'_>, route: Route) -> Answer<Route> {
    let query = "INSERT INTO routes (type, parent_ref, service, port, leader, domain, path, sticky, \
           drain_backends, disable_keep_alives, certificate_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::uuid) \
         RETURNING id::text AS id, created_at, updated_at";
    let is_http = route.kind == RouteKind::Http;
    let (domain, path) =
        if is_http { (route.domain.as_str(), route.path.as_str()) } else { ("", "") };
    let port = i32::try_from(route.port).unwrap_or_default();
    let (kind, certificate) = (route.kind.as_str(), certificate_id(&route));
    let values: [&(dyn kit_pg::ToSql + Sync); 11] = [
        &kind,
        &route.parent_ref,
        &route.service,
        &port,
        &route.leader,
        &domain,
        &path,
        &route.sticky,
        &route.drain_backends,
        &route.disable_keep_alives,
        &certificate,
    ];
    let row = change.tx().query_one(query, &values).await?;
    Ok(Route {
        id: Some(rows::parsed(&row, "id")?),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        ..route
    })
}

fn certificate_id(route: &Route) -> Option<String> {
    let certificate = route.certificate.as_ref().filter(|certificate| !certificate.is_empty());
    certificate.and_then(|certificate| certificate.id.as_ref()).map(ToString::to_string)
}

async fn find(db: &impl GenericClient, id: &RouteId) -> Answer<Route> {
    let query = format!("{SELECT} WHERE deleted_at IS NULL AND routes.id = $1::text::uuid");
    let found = db.query_opt(&query, &[&id.as_str()]).await?;
    found.as_ref().map_or(Err(Failure::NotFound), from_row)
}

async fn find_of(
    db: &impl GenericClient,
    app: &AppId,
    kind: RouteKind,
    id: &RouteId,
) -> Answer<Route> {
    let route = find(db, id).await?;
    let is_own = route.kind == kind && route.parent_ref == parent(app);
    if is_own { Ok(route) } else { Err(Failure::NotFound) }
}

fn from_row(row: &Row) -> Answer<Route> {
    let certificate = match rows::maybe(row, "certificate_id")? {
        Some(id) => Some(certificates::from_columns(row, id)?),
        None => None,
    };
    let port: i32 = row.try_get("port")?;
    let base = match rows::parsed(row, "type")? {
        RouteKind::Http => Route::http(row.try_get("domain")?, row.try_get("service")?),
        RouteKind::Tcp => Route::tcp(0, row.try_get("service")?),
    };
    Ok(Route {
        id: Some(rows::parsed(row, "id")?),
        parent_ref: rows::text(row, "parent_ref")?,
        port: i64::from(port),
        leader: row.try_get("leader")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        certificate,
        sticky: row.try_get("sticky")?,
        path: rows::text(row, "path")?,
        drain_backends: row.try_get("drain_backends")?,
        disable_keep_alives: row.try_get("disable_keep_alives")?,
        ..base
    })
}

fn parent(app: &AppId) -> String {
    format!("{PARENT}{app}")
}

fn key(kind: &str, id: &str) -> Answer<(RouteKind, RouteId)> {
    let kind = kind.parse().map_err(|_| Failure::NotFound)?;
    let id = id.parse().map_err(|_| Failure::NotFound)?;
    Ok((kind, id))
}

fn is_json(headers: &HeaderMap) -> Answer<()> {
    let mut types = headers.get_all(http::header::CONTENT_TYPE).iter();
    if types.any(|value| value.to_str().is_ok_and(|value| value.contains("application/json"))) {
        return Ok(());
    }
    Err(Failure::invalid("Content-Type must be application/json"))
}

fn body_error(error: &RouteBodyError) -> Failure {
    match error {
        RouteBodyError::Type => Failure::field(router_api::TYPE_FIELD, router_api::TYPE_MESSAGE),
        RouteBodyError::Json(_) => ApiError::syntax().into(),
    }
}

/// A refusal in the words clients know; the exact reason goes to the log.
fn refuse(refusal: &RouteRefusal, asked: &Route) -> Failure {
    if let Some(reason) = refusal.reason() {
        tracing::info!(reason, domain = %asked.domain, service = %asked.service, "route refused");
    }
    let code = match refusal {
        RouteRefusal::Duplicate | RouteRefusal::ReservedPort => ErrorCode::Conflict,
        RouteRefusal::Invalid(_) | RouteRefusal::Certificate(_) | RouteRefusal::Dependents => {
            ErrorCode::Validation
        }
    };
    let error = ApiError::new(code, refusal.to_string());
    // Keys stay out of what goes into terminals and logs.
    match serde_json::to_value(asked.without_certificate()) {
        Ok(detail) if refusal.has_detail() => error.with_detail(detail).into(),
        Ok(_) | Err(_) => error.into(),
    }
}

fn duplicate(error: PgError, asked: &Route) -> Failure {
    match &error {
        PgError::Unique { .. } => refuse(&RouteRefusal::Duplicate, asked),
        PgError::Unavailable(_)
        | PgError::Timeout { .. }
        | PgError::ForeignKey { .. }
        | PgError::Check { .. }
        | PgError::Conflict(_)
        | PgError::Data { .. }
        | PgError::Query(_) => error.into(),
    }
}
