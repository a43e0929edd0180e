//! Providers: services that make resources on request.

use axum::extract::{Path, State};
use controller_api::{EventType, Provider};
use kit_http::Json;
use kit_pg::{GenericClient, Row};
use serde_json::Value;

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::server::Controller;
use crate::{check, rows};

const COLUMNS: &str = "id::text AS id, url, name, created_at, updated_at";

/// `POST /providers`
pub(crate) async fn create(
    State(controller): State<Controller>,
    Json(body): Json<Value>,
) -> Answer<Json<Provider>> {
    let mut body = check::object(body)?;
    check::uri(&body, "url")?;
    // An id of the client's does not count, whatever it is.
    body.remove("id");
    let provider: Provider = check::read(body)?;
    for (field, value) in [("name", &provider.name), ("url", &provider.url)] {
        if value.is_empty() {
            return Err(Failure::field(field, "must not be blank"));
        }
    }
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let query = format!("INSERT INTO providers (url, name) VALUES ($1, $2) RETURNING {COLUMNS}");
    let row = change.tx().query_one(&query, &[&provider.url, &provider.name]).await?;
    let provider = from_row(&row)?;
    change.announce(None, EventType::Provider, rows::text(&row, "id")?, Op::Create, &provider)?;
    change.commit().await?;
    Ok(Json(provider))
}

/// `GET /providers`
pub(crate) async fn list(State(controller): State<Controller>) -> Answer<Json<Vec<Provider>>> {
    let query = format!(
        "SELECT {COLUMNS} FROM providers WHERE deleted_at IS NULL ORDER BY created_at DESC"
    );
    let found = controller.client().await?.query(&query, &[]).await?;
    Ok(Json(found.iter().map(from_row).collect::<Result<_, _>>()?))
}

/// `GET /providers/:id-or-name`
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path(provider): Path<String>,
) -> Answer<Json<Provider>> {
    find(&controller.client().await?, &provider).await.map(Json)
}

/// A provider by id or name.
pub(crate) async fn find(db: &impl GenericClient, id_or_name: &str) -> Answer<Provider> {
    if id_or_name.contains('\0') {
        return Err(Failure::NotFound);
    }
    let query = format!(
        "SELECT {COLUMNS} FROM providers WHERE deleted_at IS NULL \
         AND (name = $1 OR id = $2::text::uuid) ORDER BY name = $1 LIMIT 1"
    );
    let found = db.query_opt(&query, &[&id_or_name, &rows::uuid_form(id_or_name)]).await?;
    found.as_ref().map_or(Err(Failure::NotFound), from_row)
}

fn from_row(row: &Row) -> Answer<Provider> {
    Ok(Provider {
        id: Some(rows::parsed(row, "id")?),
        url: rows::text(row, "url")?,
        name: rows::text(row, "name")?,
        created_at: rows::maybe_time(row, "created_at")?,
        updated_at: rows::maybe_time(row, "updated_at")?,
    })
}
