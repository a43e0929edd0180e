//! Resources: what providers made, and which apps use it.

use axum::extract::{Path, State};
use controller_api::{EventType, Provider, Resource, ResourceReq};
use kit_http::Json;
use kit_ids::{AppId, ProviderId, ResourceId};
use kit_pg::{GenericClient, Json as Jsonb, Row};
use serde_json::Value;

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::server::Controller;
use crate::{apps, check, providers, provisioning, rows};

const SELECT: &str = "SELECT resources.id::text AS id, provider_id::text AS provider_id, external_id, env, \
     resources.created_at, ARRAY(SELECT app_id::text FROM app_resources \
       WHERE resource_id = resources.id ORDER BY created_at DESC, index) AS apps FROM resources";

/// `GET /resources`
pub(crate) async fn list(State(controller): State<Controller>) -> Answer<Json<Vec<Resource>>> {
    let client = controller.client().await?;
    select(&client, "true", &[]).await.map(Json)
}

/// `GET /providers/P/resources`
pub(crate) async fn list_of_provider(
    State(controller): State<Controller>,
    Path(provider): Path<String>,
) -> Answer<Json<Vec<Resource>>> {
    let client = controller.client().await?;
    let provider = provider_id(&providers::find(&client, &provider).await?)?;
    select(&client, "provider_id = $1::text::uuid", &[&provider.as_str()]).await.map(Json)
}

/// `GET /apps/A/resources`
pub(crate) async fn list_of_app(
    State(controller): State<Controller>,
    Path(app): Path<String>,
) -> Answer<Json<Vec<Resource>>> {
    let client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let used = "id IN (SELECT resource_id FROM app_resources WHERE app_id = $1::text::uuid)";
    select(&client, used, &[&app.as_str()]).await.map(Json)
}

/// `GET /providers/P/resources/:id`
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path((provider, id)): Path<(String, String)>,
) -> Answer<Json<Resource>> {
    let client = controller.client().await?;
    providers::find(&client, &provider).await?;
    find(&client, &parse(&id)?).await.map(Json)
}

/// `POST /providers/P/resources`: apps are looked up first, so that nothing is made in vain.
pub(crate) async fn provision(
    State(controller): State<Controller>,
    Path(provider): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Resource>> {
    let request: ResourceReq = check::read(check::object(body)?)?;
    let client = controller.client().await?;
    let provider = providers::find(&client, &provider).await?;
    let apps = find_apps(&client, &request.apps).await?;
    // A provider may take minutes; connections are few.
    drop(client);
    let made = provisioning::provision(controller.http(), &provider, request.config).await?;
    let resource = Resource {
        provider: provider.id.clone(),
        external_id: made.id.clone(),
        env: made.env,
        apps,
        ..Resource::default()
    };
    match store(&controller, resource).await {
        Ok(resource) => Ok(Json(resource)),
        Err(failure) => {
            // What nobody knows of would never be destroyed.
            let undone = provisioning::deprovision(controller.http(), &provider, &made.id).await;
            tracing::warn!(provider = %provider.name, undone = undone.is_ok(), "resource made but not recorded");
            Err(failure)
        }
    }
}

/// `PUT /providers/P/resources/:id`: records what was made elsewhere.
pub(crate) async fn put(
    State(controller): State<Controller>,
    Path((provider, id)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Answer<Json<Resource>> {
    let mut body = check::object(body)?;
    body.remove("provider");
    body.insert("id".to_owned(), Value::String(id.clone()));
    let id: Result<ResourceId, _> = id.parse();
    id.map_err(|_| Failure::field("id", "must be a UUID"))?;
    let resource: Resource = check::read(body)?;
    if resource.external_id.is_empty() {
        return Err(Failure::field("external_id", "must not be blank"));
    }
    let provider = providers::find(&controller.client().await?, &provider).await?;
    store(&controller, Resource { provider: provider.id, ..resource }).await.map(Json)
}

/// `DELETE /providers/P/resources/:id`
pub(crate) async fn delete(
    State(controller): State<Controller>,
    Path((provider, id)): Path<(String, String)>,
) -> Answer<Json<Resource>> {
    let client = controller.client().await?;
    providers::find(&client, &provider).await?;
    let resource = find(&client, &parse(&id)?).await?;
    drop(client);
    destroy(&controller, &resource).await?;
    Ok(Json(resource))
}

/// Destroys the resources that only this app uses; the answer names them.
pub(crate) async fn delete_all_of(controller: &Controller, app: &AppId) -> Answer<Vec<Resource>> {
    let used = "id IN (SELECT resource_id FROM app_resources WHERE app_id = $1::text::uuid)";
    let mut found = select(&controller.client().await?, used, &[&app.as_str()]).await?;
    found.retain(|resource| resource.apps.len() == 1);
    for resource in &found {
        destroy(controller, resource).await?;
    }
    Ok(found)
}

async fn destroy(controller: &Controller, resource: &Resource) -> Answer<()> {
    let owner = resource.provider.as_ref().map_or("", |id| id.as_str());
    let owner = providers::find(&controller.client().await?, owner).await?;
    provisioning::deprovision(controller.http(), &owner, &resource.external_id).await?;
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let id = rows::text_of(resource.id.as_ref());
    let unlink = "DELETE FROM app_resources WHERE resource_id = $1::text::uuid";
    change.tx().execute(unlink, &[&id]).await?;
    let forget = "UPDATE resources SET deleted_at = now() WHERE id = $1::text::uuid";
    change.tx().execute(forget, &[&id]).await?;
    announce(&mut change, EventType::ResourceDeletion, resource)?;
    Ok(change.commit().await?)
}

/// `PUT /providers/P/resources/:id/apps/:app`
pub(crate) async fn add_app(
    State(controller): State<Controller>,
    Path((provider, id, app)): Path<(String, String, String)>,
) -> Answer<Json<Resource>> {
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let (mut resource, app) = find_both(change.tx(), &provider, &id, &app).await?;
    link(&change, &resource, std::slice::from_ref(&app)).await?;
    resource.apps.push(app.clone());
    change.announce(Some(&app), EventType::Resource, id, Op::Update, &resource)?;
    change.commit().await?;
    Ok(Json(resource))
}

/// `DELETE /providers/P/resources/:id/apps/:app`
pub(crate) async fn remove_app(
    State(controller): State<Controller>,
    Path((provider, id, app)): Path<(String, String, String)>,
) -> Answer<Json<Resource>> {
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let (mut resource, app) = find_both(change.tx(), &provider, &id, &app).await?;
    let query =
        "DELETE FROM app_resources WHERE resource_id = $1::text::uuid AND app_id = $2::text::uuid";
    if change.tx().execute(query, &[&id, &app.as_str()]).await? == 0 {
        return Err(Failure::NotFound);
    }
    resource.apps.retain(|other| *other != app);
    change.announce(Some(&app), EventType::ResourceAppDeletion, id, Op::Other, &resource)?;
    change.commit().await?;
    Ok(Json(resource))
}

async fn find_both(
    db: &impl GenericClient,
    provider: &str,
    id: &str,
    app: &str,
) -> Answer<(Resource, AppId)> {
    providers::find(db, provider).await?;
    Ok((find(db, &parse(id)?).await?, apps::find_id(db, app).await?))
}

async fn find(db: &impl GenericClient, id: &ResourceId) -> Answer<Resource> {
    let found = select(db, "id = $1::text::uuid", &[&id.as_str()]).await?;
    found.into_iter().next().ok_or(Failure::NotFound)
}

async fn select(
    db: &impl GenericClient,
    condition: &str,
    values: &[&(dyn kit_pg::ToSql + Sync)],
) -> Answer<Vec<Resource>> {
    let query =
        format!("{SELECT} WHERE deleted_at IS NULL AND {condition} ORDER BY created_at DESC");
    db.query(&query, values).await?.iter().map(from_row).collect()
}

fn from_row(row: &Row) -> Answer<Resource> {
    let apps: Vec<String> = row.try_get("apps")?;
    Ok(Resource {
        id: Some(rows::parsed(row, "id")?),
        provider: Some(rows::parsed(row, "provider_id")?),
        external_id: rows::text(row, "external_id")?,
        env: rows::json(row, "env")?,
        apps: apps.iter().filter_map(|id| id.parse().ok()).collect(),
        created_at: rows::maybe_time(row, "created_at")?,
    })
}

async fn find_apps(db: &impl GenericClient, names: &[String]) -> Answer<Vec<AppId>> {
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        found.push(apps::find_id(db, name).await.map_err(|failure| match failure {
            Failure::NotFound => Failure::field("apps", format!("{name:?} does not exist")),
            failure @ Failure::Api(_) => failure,
        })?);
    }
    Ok(found)
}

async fn store(controller: &Controller, resource: Resource) -> Answer<Resource> {
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let query = "INSERT INTO resources (id, provider_id, external_id, env) \
         VALUES (coalesce($1::text::uuid, gen_random_uuid()), $2::text::uuid, $3, $4) \
         RETURNING id::text AS id, created_at";
    let (id, provider) =
        (rows::text_of(resource.id.as_ref()), rows::text_of(resource.provider.as_ref()));
    let values: [&(dyn kit_pg::ToSql + Sync); 4] =
        [&id, &provider, &resource.external_id, &Jsonb(&resource.env)];
    let row = change.tx().query_one(query, &values).await?;
    let id = Some(rows::parsed(&row, "id")?);
    let resource = Resource { id, created_at: rows::maybe_time(&row, "created_at")?, ..resource };
    link(&change, &resource, &resource.apps).await?;
    announce(&mut change, EventType::Resource, &resource)?;
    change.commit().await?;
    Ok(resource)
}

async fn link(change: &Change<'_>, resource: &Resource, apps: &[AppId]) -> Answer<()> {
    let query =
        "INSERT INTO app_resources (app_id, resource_id) VALUES ($1::text::uuid, $2::text::uuid)";
    let id = rows::text_of(resource.id.as_ref());
    for app in apps {
        let known = apps::find_id(change.tx(), app.as_str()).await;
        if matches!(known, Err(Failure::NotFound)) {
            return Err(Failure::field("apps", format!("{app} does not exist")));
        }
        change.tx().execute(query, &[&app.as_str(), &id]).await?;
    }
    Ok(())
}

/// One event per app, or one without an app.
fn announce(change: &mut Change<'_>, kind: EventType, resource: &Resource) -> Answer<()> {
    let id = rows::text_of(resource.id.as_ref()).unwrap_or_default();
    if resource.apps.is_empty() {
        return change.announce(None, kind, id, Op::Other, resource);
    }
    for app in &resource.apps {
        change.announce(Some(app), kind, &id, Op::Other, resource)?;
    }
    Ok(())
}

fn provider_id(provider: &Provider) -> Answer<ProviderId> {
    provider.id.clone().ok_or(Failure::NotFound)
}

fn parse(id: &str) -> Answer<ResourceId> {
    id.parse().map_err(|_| Failure::NotFound)
}
