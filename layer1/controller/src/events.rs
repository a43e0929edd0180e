//! Events: the list, single ones, and the stream that begins where a client left off.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use controller_api::{Event, EventType};
use futures_util::{Stream, StreamExt as _, stream};
use http::HeaderMap;
use http::header::ACCEPT;
use kit_http::{Json, Query, sse};
use kit_pg::{GenericClient, Row};
use serde::Deserialize;

use crate::failure::{Answer, Failure};
use crate::hub::Subscription;
use crate::server::Controller;
use crate::{apps, rows};

const COLUMNS: &str = "id, app_id::text AS app_id, object_type, object_id, data, created_at";

/// Stored events that one request may ask for. More is had by going on from the last id.
const MAX_COUNT: i64 = 10_000;

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Params {
    app_id: Option<String>,
    object_types: Option<String>,
    object_id: Option<String>,
    before_id: Option<String>,
    since_id: Option<String>,
    count: Option<String>,
    past: Option<String>,
}

/// Which events a request is about.
#[derive(Clone, Debug, Default)]
struct Filter {
    app: Option<String>,
    types: Vec<String>,
    object_id: Option<String>,
}

/// Which stored events: `after` < id < `before`, the newest `count`.
#[derive(Clone, Copy, Debug)]
struct Range {
    after: i64,
    before: i64,
    count: i64,
}

/// `GET /events`: the list for clients that accept exactly JSON, the stream for all others.
pub(crate) async fn list_or_stream(
    State(controller): State<Controller>,
    headers: HeaderMap,
    Query(params): Query<Params>,
) -> Answer<Response> {
    let client = controller.client().await?;
    let filter = Filter::of(&client, &params).await?;
    if headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes() == b"application/json") {
        let range = Range {
            before: integer("before_id", params.before_id.as_deref())?.unwrap_or(i64::MAX),
            after: integer("since_id", params.since_id.as_deref())?.unwrap_or(0),
            count: count(&params)?,
        };
        return Ok(Json(stored(&client, &filter, range).await?).into_response());
    }
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("x"));
    let last = integer("Last-Event-Id", last)?.unwrap_or(0);
    let count = count(&params)?;
    // Subscribed before the list is read, so that nothing falls in between.
    let subscription = controller.hub().subscribe();
    let (past, last) = if last > 0 || params.past.as_deref() == Some("true") {
        let mut past =
            stored(&client, &filter, Range { after: last, before: i64::MAX, count }).await?;
        past.reverse();
        (past, last)
    } else {
        // What is stored already may still be on its way to those who listen: it is not from now on.
        (Vec::new(), newest_id(&client).await?)
    };
    Ok(sse::response(events(past, subscription, filter, last)))
}

/// `GET /events/:id`
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path(id): Path<String>,
) -> Answer<Json<Event>> {
    let id = integer("id", Some(&id))?.unwrap_or(0);
    let query = format!("SELECT {COLUMNS} FROM events WHERE id = $1");
    let found = controller.client().await?.query_opt(&query, &[&id]).await?;
    found.as_ref().map_or(Err(Failure::NotFound), from_row).map(Json)
}

/// The id of the newest event; 0 when there is none.
pub(crate) async fn newest_id(db: &impl GenericClient) -> Answer<i64> {
    let row = db.query_one("SELECT coalesce(max(id), 0) FROM events", &[]).await?;
    Ok(row.try_get(0)?)
}

/// Events after an id, oldest first.
pub(crate) async fn after(db: &impl GenericClient, id: i64, limit: i64) -> Answer<Vec<Event>> {
    let query = format!("SELECT {COLUMNS} FROM events WHERE id > $1 ORDER BY id LIMIT $2");
    db.query(&query, &[&id, &limit]).await?.iter().map(from_row).collect()
}

impl Filter {
    async fn of(db: &impl GenericClient, params: &Params) -> Answer<Self> {
        let app = match params.app_id.as_deref().filter(|app| !app.is_empty()) {
            Some(app) => Some(apps::find_id(db, app).await?.to_string()),
            None => None,
        };
        let types = params.object_types.as_deref().unwrap_or_default().split(',');
        let types = types.filter(|kind| !kind.is_empty()).map(str::to_owned).collect();
        let object_id = params.object_id.clone().filter(|id| !id.is_empty());
        Ok(Self { app, types, object_id })
    }

    fn matches(&self, event: &Event) -> bool {
        let app = event.app.as_ref().map(|app| app.as_str());
        let kind = event.object_type.map(EventType::as_str);
        self.app.as_deref().is_none_or(|wanted| app == Some(wanted))
            && (self.types.is_empty() || self.types.iter().any(|wanted| kind == Some(wanted)))
            && self.object_id.as_deref().is_none_or(|wanted| event.object_id == wanted)
    }
}

/// Stored events, the newest first.
async fn stored(db: &impl GenericClient, filter: &Filter, range: Range) -> Answer<Vec<Event>> {
    let query = format!(
        "SELECT {COLUMNS} FROM events WHERE id > $1 AND id < $2 \
         AND ($3::text IS NULL OR app_id = $3::text::uuid) \
         AND (cardinality($4::text[]) = 0 OR object_type = ANY($4)) \
         AND ($5::text IS NULL OR object_id = $5) ORDER BY id DESC LIMIT $6"
    );
    let values: [&(dyn kit_pg::ToSql + Sync); 6] =
        [&range.after, &range.before, &filter.app, &filter.types, &filter.object_id, &range.count];
    db.query(&query, &values).await?.iter().map(from_row).collect()
}

/// Stored events, then live ones that are newer, then the reason of the end.
fn events(
    past: Vec<Event>,
    subscription: Subscription,
    filter: Filter,
    last: i64,
) -> impl Stream<Item = sse::Event> + Send + 'static {
    let last = past.last().map_or(last, |event| event.id);
    let live = stream::unfold(Some(subscription), move |subscription| async move {
        let mut subscription = subscription?;
        match subscription.next_event().await {
            Ok(event) => Some((Ok(event), Some(subscription))),
            Err(lost) => Some((Err(lost), None)),
        }
    });
    let wanted = move |event: &Arc<Event>| event.id > last && filter.matches(event);
    let live = live.filter_map(move |event| {
        std::future::ready(match event {
            Ok(event) => wanted(&event).then(|| sse::Event::json(event.as_ref())),
            Err(lost) => Some(sse::Event::error(lost.to_string())),
        })
    });
    stream::iter(past).map(|event| sse::Event::json(&event)).chain(live)
}

fn from_row(row: &Row) -> Answer<Event> {
    Ok(Event {
        id: row.try_get("id")?,
        app: rows::maybe(row, "app_id")?,
        object_type: rows::maybe(row, "object_type")?,
        object_id: rows::text(row, "object_id")?,
        data: rows::json(row, "data")?,
        created_at: rows::maybe_time(row, "created_at")?,
    })
}

/// A count that is absent, zero or less means no limit of the client's.
fn count(params: &Params) -> Answer<i64> {
    let count = integer("count", params.count.as_deref())?.unwrap_or(0);
    Ok(if (1..MAX_COUNT).contains(&count) { count } else { MAX_COUNT })
}

fn integer(field: &str, text: Option<&str>) -> Answer<Option<i64>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Failure::field(field, "is invalid"))
}
