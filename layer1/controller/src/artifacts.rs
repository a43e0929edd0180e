//! Artifacts: made once per type and URI, their manifests fetched and verified where they were not
//! given.

use std::time::Duration;

use axum::extract::{Extension, Path, State};
use controller_api::{Artifact, ArtifactType, EventType, META_BLOBSTORE, META_SYSTEM_IMAGE};
use kit_auth::BuildScope;
use kit_http::{ApiError, ErrorCode, Json};
use kit_ids::ArtifactId;
use kit_pg::{GenericClient, Json as Jsonb, Row};
use serde_json::Value;

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::server::Controller;
use crate::{check, manifest, rows};

const COLUMNS: &str = "artifacts.id::text AS id, type, uri, meta, manifest, hashes, size, layer_url_template, \
     artifacts.created_at";

/// Where builds put what they make.
const SLUG_MANIFESTS: &str = "http://blobstore.discoverd/slugs/images/";
const SLUG_LAYERS: &str = "http://blobstore.discoverd/slugs/layers/{id}.squashfs";

/// `POST /artifacts`
pub(crate) async fn create(
    State(controller): State<Controller>,
    build: Option<Extension<BuildScope>>,
    Json(body): Json<Value>,
) -> Answer<Json<Artifact>> {
    let body = check::object(body)?;
    check::one_of(&body, "type", &check::names(ArtifactType::ALL, ArtifactType::as_str))?;
    check::required(&body, "type")?;
    check::required(&body, "uri")?;
    check::uri(&body, "uri")?;
    let mut artifact: Artifact = check::read(body)?;
    if let Some(Extension(scope)) = &build {
        check_slug(scope, &artifact)?;
    }
    if artifact.kind == Some(ArtifactType::Flynn) && artifact.manifest.is_none() {
        artifact.manifest = Some(manifest::fetch(controller.http(), &artifact).await?);
    }
    if let Some(given) = &artifact.manifest {
        manifest::check(given)?;
    }
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    if build.is_some() {
        name_apart(&change, &mut artifact).await?;
    }
    let stored = insert_or_find(&change, artifact).await?;
    change.announce(None, EventType::Artifact, id(&stored)?, Op::Create, &stored)?;
    change.commit().await?;
    Ok(Json(stored))
}

/// `GET /artifacts`
pub(crate) async fn list(State(controller): State<Controller>) -> Answer<Json<Vec<Artifact>>> {
    let query = format!(
        "SELECT {COLUMNS} FROM artifacts WHERE deleted_at IS NULL ORDER BY created_at DESC"
    );
    let found = controller.client().await?.query(&query, &[]).await?;
    Ok(Json(found.iter().map(from_row).collect::<Result<_, _>>()?))
}

/// `GET /artifacts/:id`
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path(id): Path<String>,
) -> Answer<Json<Artifact>> {
    let id: ArtifactId = id.parse().map_err(|_| Failure::NotFound)?;
    find(&controller.client().await?, &id).await.map(Json)
}

/// A living artifact.
pub(crate) async fn find(db: &impl GenericClient, id: &ArtifactId) -> Answer<Artifact> {
    let query =
        format!("SELECT {COLUMNS} FROM artifacts WHERE deleted_at IS NULL AND id = $1::text::uuid");
    let found = db.query_opt(&query, &[&id.as_str()]).await?;
    found.as_ref().map_or(Err(Failure::NotFound), from_row)
}

/// The artifacts of a release, in its order.
pub(crate) async fn of_release(db: &impl GenericClient, release: &str) -> Answer<Vec<Artifact>> {
    let query = format!(
        "SELECT {COLUMNS} FROM release_artifacts JOIN artifacts ON artifacts.id = artifact_id \
         WHERE release_id = $1::text::uuid ORDER BY index"
    );
    let found = db.query(&query, &[&release]).await?;
    found.iter().map(from_row).collect()
}

/// Images in the blob store that no release has, and that were made before `age` ago: at most a hundred,
/// locked. Those of the platform stay: builds are made with some of them.
pub(crate) async fn unreleased(db: &impl GenericClient, age: Duration) -> Answer<Vec<Artifact>> {
    let query = format!(
        "SELECT {COLUMNS} FROM artifacts WHERE deleted_at IS NULL \
         AND created_at < now() - make_interval(secs => $1) AND meta ->> $2 = 'true' \
         AND meta ->> $3 IS DISTINCT FROM 'true' AND NOT EXISTS \
         (SELECT 1 FROM release_artifacts WHERE artifact_id = artifacts.id AND deleted_at IS NULL) \
         ORDER BY created_at LIMIT 100 FOR UPDATE SKIP LOCKED"
    );
    let found =
        db.query(&query, &[&age.as_secs_f64(), &META_BLOBSTORE, &META_SYSTEM_IMAGE]).await?;
    found.iter().map(from_row).collect()
}

fn from_row(row: &Row) -> Answer<Artifact> {
    Ok(Artifact {
        id: Some(rows::parsed(row, "id")?),
        kind: rows::maybe(row, "type")?,
        uri: rows::text(row, "uri")?,
        meta: rows::json(row, "meta")?,
        manifest: rows::maybe_json(row, "manifest")?,
        hashes: rows::json(row, "hashes")?,
        size: row.try_get("size")?,
        layer_url_template: rows::text(row, "layer_url_template")?,
        created_at: rows::maybe_time(row, "created_at")?,
    })
}

fn id(artifact: &Artifact) -> Answer<ArtifactId> {
    artifact.id.clone().ok_or(Failure::NotFound)
}

/// What a build may tell of: the one slug it was started for, kept where slugs are. Its addresses are
/// used by hosts and by the worker, so a build cannot choose them.
fn check_slug(scope: &BuildScope, artifact: &Artifact) -> Answer<()> {
    let is_slug = artifact.id.as_ref() == Some(&scope.artifact)
        && artifact.kind == Some(ArtifactType::Flynn)
        && artifact.manifest.is_some()
        && artifact.uri.starts_with(SLUG_MANIFESTS)
        && !artifact.uri[SLUG_MANIFESTS.len()..].contains(['/', '#', '?', '%'])
        && artifact.layer_url_template == SLUG_LAYERS
        && !artifact.meta.contains_key(META_SYSTEM_IMAGE);
    if is_slug {
        return Ok(());
    }
    let text = "this token is only good for the slug of its build";
    Err(ApiError::new(ErrorCode::Unauthorized, text).into())
}

/// The same source built twice gives the same manifest, and so the same URI; yet each build promised an
/// artifact of its own. A fragment tells them apart and changes nothing for whoever fetches the URI.
async fn name_apart(change: &Change<'_>, artifact: &mut Artifact) -> Answer<()> {
    let id = rows::text_of(artifact.id.as_ref()).unwrap_or_default().to_owned();
    let query = "SELECT 1 FROM artifacts WHERE deleted_at IS NULL AND type = 'flynn' AND uri = $1 \
                 AND id <> $2::text::uuid";
    if change.tx().query_opt(query, &[&artifact.uri, &id]).await?.is_some() {
        artifact.uri = format!("{}#{id}", artifact.uri);
    }
    Ok(())
}

/// The artifact as it is stored; the one that was there first wins.
async fn insert_or_find(change: &Change<'_>, artifact: Artifact) -> Answer<Artifact> {
    let kind = artifact.kind.unwrap_or(ArtifactType::Flynn).as_str();
    let query = "INSERT INTO artifacts \
           (id, type, uri, meta, manifest, hashes, size, layer_url_template) \
         VALUES (coalesce($1::text::uuid, gen_random_uuid()), $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (type, uri) WHERE deleted_at IS NULL DO NOTHING \
         RETURNING id::text AS id, created_at";
    let id = rows::text_of(artifact.id.as_ref());
    let (meta, hashes) = (Jsonb(&artifact.meta), Jsonb(&artifact.hashes));
    let (manifest, template) =
        (artifact.manifest.as_ref().map(Jsonb), &artifact.layer_url_template);
    let values: [&(dyn kit_pg::ToSql + Sync); 8] =
        [&id, &kind, &artifact.uri, &meta, &manifest, &hashes, &artifact.size, template];
    if let Some(row) = change.tx().query_opt(query, &values).await? {
        let id = Some(rows::parsed(&row, "id")?);
        return Ok(Artifact { id, created_at: rows::maybe_time(&row, "created_at")?, ..artifact });
    }
    let query = format!(
        "SELECT {COLUMNS} FROM artifacts WHERE deleted_at IS NULL AND type = $1 AND uri = $2"
    );
    from_row(&change.tx().query_one(&query, &[&kind, &artifact.uri]).await?)
}
