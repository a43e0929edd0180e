//! Scale requests: the one way in which a formation changes. A request replaces all earlier ones of
//! its formation, takes effect at once, and is complete when the scheduler says so.

use axum::extract::{Path, State};
use controller_api::{
    DeprecatedScale, EventType, Formation, ProcessCounts, ProcessTags, Release, ScaleRequest,
    ScaleState,
};
use kit_http::Json;
use kit_ids::AppId;
use kit_pg::{Client, GenericClient, Json as Jsonb, Row};
use serde_json::Value;

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::server::Controller;
use crate::{apps, check, formations, releases, rows};

const COLUMNS: &str = "id::text AS id, app_id::text AS app_id, release_id::text AS release_id, state, \
     old_processes, new_processes, old_tags, new_tags, created_at, updated_at";

/// What becomes of the formation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It stays, with other counts.
    Scale,
    /// It goes.
    Delete,
}

/// `PUT /apps/A/scale/:rel`
pub(crate) async fn put(
    State(controller): State<Controller>,
    Path((app, release)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Answer<Json<ScaleRequest>> {
    let body = check::object(body)?;
    check::always_one_of(&body, "state", &check::names(ScaleState::ALL, ScaleState::as_str))?;
    check::counts(&body, "new_processes")?;
    let request: ScaleRequest = check::read(body)?;
    let mut client = controller.client().await?;
    let app = apps::find_id(&client, &app).await?;
    let release = releases::find(&client, &release).await?;
    match request.state {
        Some(ScaleState::Pending) => {
            add(&mut client, &app, &release, request, Kind::Scale).await.map(Json)
        }
        Some(ScaleState::Complete | ScaleState::Cancelled) | None => {
            set_state(&mut client, &app, &release, request).await.map(Json)
        }
    }
}

/// Makes a request and changes the formation.
pub(crate) async fn add(
    client: &mut Client,
    app: &AppId,
    release: &Release,
    request: ScaleRequest,
    kind: Kind,
) -> Answer<ScaleRequest> {
    let mut change = Change::begin(client).await?;
    let made = add_in(&mut change, app, release, request, kind).await?;
    change.commit().await?;
    Ok(made)
}

/// The same, as part of a larger change.
pub(crate) async fn add_in(
    change: &mut Change<'_>,
    app: &AppId,
    release: &Release,
    request: ScaleRequest,
    kind: Kind,
) -> Answer<ScaleRequest> {
    check_request(release, &request)?;
    let release_id = release.id.clone().ok_or(Failure::NotFound)?;
    lock(change, app, release_id.as_str()).await?;
    let before = current(change, app, release_id.as_str()).await?;
    let merged = merge(&before, &request);
    let cancelled = cancel_earlier(change, app, release_id.as_str()).await?;
    let made = ScaleRequest {
        app: Some(app.clone()),
        release: Some(release_id.clone()),
        old_processes: before.processes.clone().unwrap_or_default(),
        old_tags: before.tags.clone().unwrap_or_default(),
        // What was not asked for is told as it is and stays.
        new_processes: Some(request.wanted_processes().cloned().or(before.processes.clone())),
        new_tags: Some(request.wanted_tags().cloned().or(before.tags.clone())),
        ..request
    };
    let made = insert(change, made).await?;
    store(change, app, release_id.as_str(), &merged, kind).await?;
    announce(change, app, &made, &before, &merged, cancelled)?;
    Ok(made)
}

/// The request that waits for the scheduler. Its `updated_at` is left out, as clients are used to.
pub(crate) async fn pending(
    db: &impl GenericClient,
    app: &str,
    release: &str,
) -> Answer<Option<ScaleRequest>> {
    let query = format!(
        "SELECT {COLUMNS} FROM scale_requests WHERE app_id = $1::text::uuid \
         AND release_id = $2::text::uuid AND state = 'pending' ORDER BY created_at DESC LIMIT 1"
    );
    let Some(row) = db.query_opt(&query, &[&app, &release]).await? else { return Ok(None) };
    let mut request = from_row(&row)?;
    request.updated_at = None;
    // Tags are told only where the request is about them.
    request.new_tags = request.new_tags.filter(Option::is_some);
    Ok(Some(request))
}

/// Records what became of a request. The answer is the body, as clients expect.
async fn set_state(
    client: &mut Client,
    app: &AppId,
    release: &Release,
    request: ScaleRequest,
) -> Answer<ScaleRequest> {
    let id = request.id.clone().ok_or_else(|| Failure::field("id", "is required"))?;
    let state = request.state.ok_or_else(|| Failure::field("state", "is required"))?;
    let mut change = Change::begin(client).await?;
    // A request that a newer one replaced stays replaced.
    let query = "UPDATE scale_requests SET state = $2, updated_at = now() \
         WHERE id = $1::text::uuid AND app_id = $3::text::uuid AND release_id = $4::text::uuid \
         AND (state <> 'cancelled' OR $2 = 'cancelled') RETURNING updated_at";
    let release_id = release.id.clone().ok_or(Failure::NotFound)?;
    let found = change
        .tx()
        .query_opt(query, &[&id.as_str(), &state.as_str(), &app.as_str(), &release_id.as_str()])
        .await?;
    let row = found.ok_or_else(|| {
        Failure::field("id", format!("{id} is no scale request of this formation that can change"))
    })?;
    let updated_at = rows::maybe_time(&row, "updated_at")?;
    let told =
        ScaleRequest { app: Some(app.clone()), release: Some(release_id), updated_at, ..request };
    change.announce(Some(app), EventType::ScaleRequest, &id, Op::Update, &told)?;
    change.commit().await?;
    Ok(told)
}

fn check_request(release: &Release, request: &ScaleRequest) -> Answer<()> {
    let (processes, tags) = (request.wanted_processes(), request.wanted_tags());
    if processes.is_none() && tags.is_none() {
        return Err(Failure::invalid("scale request must have either processes or tags set"));
    }
    let kinds = processes.into_iter().flatten().map(|(kind, _)| kind);
    let unknown: Vec<_> =
        kinds.filter(|kind| !release.processes.contains_key(*kind)).cloned().collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "requested scale includes process types that do not exist in the release: {}",
        unknown.join(", ")
    )))
}

/// Two requests for one formation follow each other: each sees the counts the other left.
async fn lock(change: &Change<'_>, app: &AppId, release: &str) -> Answer<()> {
    let query = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    change.tx().execute(query, &[&format!("formation:{app}:{release}")]).await?;
    Ok(())
}

async fn current(change: &Change<'_>, app: &AppId, release: &str) -> Answer<Formation> {
    let row = formations::find_row(change.tx(), app.as_str(), release).await?;
    match row {
        Some(row) if rows::maybe_time(&row, "deleted_at")?.is_none() => formations::from_row(&row),
        Some(_) | None => Ok(Formation::default()),
    }
}

/// Types that are not named keep their count and tags.
fn merge(before: &Formation, request: &ScaleRequest) -> Formation {
    let mut after = before.clone();
    if let Some(wanted) = request.wanted_processes() {
        after.processes.get_or_insert_with(ProcessCounts::new).extend(wanted.clone());
    }
    if let Some(wanted) = request.wanted_tags() {
        after.tags.get_or_insert_with(ProcessTags::new).extend(wanted.clone());
    }
    after
}

async fn cancel_earlier(
    change: &Change<'_>,
    app: &AppId,
    release: &str,
) -> Answer<Vec<ScaleRequest>> {
    let query = format!(
        "UPDATE scale_requests SET state = 'cancelled', updated_at = now() \
         WHERE app_id = $1::text::uuid AND release_id = $2::text::uuid AND state <> 'cancelled' \
         RETURNING {COLUMNS}"
    );
    let found = change.tx().query(&query, &[&app.as_str(), &release]).await?;
    found.iter().map(from_row).collect()
}

async fn insert(change: &Change<'_>, request: ScaleRequest) -> Answer<ScaleRequest> {
    let query = "INSERT INTO scale_requests \
           (app_id, release_id, state, old_processes, new_processes, old_tags, new_tags) \
         VALUES ($1::text::uuid, $2::text::uuid, 'pending', $3, $4, $5, $6) \
         RETURNING id::text AS id, created_at, updated_at";
    let (app, release) =
        (rows::text_of(request.app.as_ref()), rows::text_of(request.release.as_ref()));
    let (old_processes, old_tags) = (Jsonb(&request.old_processes), Jsonb(&request.old_tags));
    let new_processes = request.wanted_processes().map(Jsonb);
    let new_tags = request.wanted_tags().map(Jsonb);
    let values: [&(dyn kit_pg::ToSql + Sync); 6] =
        [&app, &release, &old_processes, &new_processes, &old_tags, &new_tags];
    let row = change.tx().query_one(query, &values).await?;
    Ok(ScaleRequest {
        id: Some(rows::parsed(&row, "id")?),
        created_at: rows::maybe_time(&row, "created_at")?,
        updated_at: rows::maybe_time(&row, "updated_at")?,
        ..request
    })
}

async fn store(
    change: &Change<'_>,
    app: &AppId,
    release: &str,
    formation: &Formation,
    kind: Kind,
) -> Answer<()> {
    if kind == Kind::Delete {
        let query = "UPDATE formations SET deleted_at = now(), updated_at = now(), processes = NULL \
             WHERE app_id = $1::text::uuid AND release_id = $2::text::uuid";
        change.tx().execute(query, &[&app.as_str(), &release]).await?;
        return Ok(());
    }
    let query = "INSERT INTO formations (app_id, release_id, processes, tags) \
         VALUES ($1::text::uuid, $2::text::uuid, $3, $4) \
         ON CONFLICT (app_id, release_id) DO UPDATE SET processes = $3, tags = $4, \
           updated_at = now(), deleted_at = NULL, \
           created_at = CASE WHEN formations.deleted_at IS NULL THEN formations.created_at ELSE now() END";
    let processes = formation.processes.as_ref().map(Jsonb);
    let tags = formation.tags.as_ref().map(Jsonb);
    change.tx().execute(query, &[&app.as_str(), &release, &processes, &tags]).await?;
    Ok(())
}

fn announce(
    change: &mut Change<'_>,
    app: &AppId,
    made: &ScaleRequest,
    before: &Formation,
    after: &Formation,
    cancelled: Vec<ScaleRequest>,
) -> Answer<()> {
    let id = |request: &ScaleRequest| rows::text_of(request.id.as_ref()).unwrap_or_default();
    change.announce(Some(app), EventType::ScaleRequest, id(made), Op::Create, made)?;
    for request in cancelled {
        let kind = EventType::ScaleRequestCancelation;
        change.announce(Some(app), kind, id(&request), Op::Update, &request)?;
    }
    let scale = DeprecatedScale {
        prev_processes: before.processes.clone().unwrap_or_default(),
        processes: after.processes.clone().unwrap_or_default(),
        release: made.release.clone(),
    };
    let object = format!("{app}:{}", rows::text_of(made.release.as_ref()).unwrap_or_default());
    change.announce(Some(app), EventType::Scale, object, Op::Other, &scale)
}

fn from_row(row: &Row) -> Answer<ScaleRequest> {
    Ok(ScaleRequest {
        id: Some(rows::parsed(row, "id")?),
        app: Some(rows::parsed(row, "app_id")?),
        release: Some(rows::parsed(row, "release_id")?),
        state: rows::maybe(row, "state")?,
        old_processes: rows::json(row, "old_processes")?,
        new_processes: Some(rows::maybe_json(row, "new_processes")?),
        old_tags: rows::json(row, "old_tags")?,
        new_tags: Some(rows::maybe_json(row, "new_tags")?),
        created_at: rows::maybe_time(row, "created_at")?,
        updated_at: rows::maybe_time(row, "updated_at")?,
    })
}
