//! The deletion of releases, with the images that no other release uses and their files in the blob
//! store; the collection of those that an app does not need any more, and of images that never got one.
//!
//! What is deleted is decided in one transaction. The files themselves go afterwards, in the
//! background: deleting one again is no error.

use std::time::Duration;

use axum::extract::{Path, State};
use controller_api::{
    App, Artifact, EventType, META_BLOBSTORE, META_SYSTEM_IMAGE, Release, ReleaseDeletion,
    ReleaseDeletionEvent, ScaleRequest,
};
use kit_ids::{AppId, ReleaseId};
use kit_pg::{Client, GenericClient, Json as Jsonb};

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::queue::{self, Task};
use crate::server::Controller;
use crate::{apps, artifacts, formations, releases, rows, scaling};

/// A layer that was pushed as a tar has a description beside it.
const META_TAR_LAYER: &str = "tar.layer_id";
const TAR_LAYERS: &str = "http://blobstore.discoverd/tarreceive/layers";

/// `DELETE /apps/A/releases/:id`
pub(crate) async fn delete(
    State(controller): State<Controller>,
    Path((app, release)): Path<(String, String)>,
) -> Answer<()> {
    let mut client = controller.client().await?;
    let app = apps::find(&client, &app).await?;
    let release = releases::find(&client, &release).await?;
    delete_from(&mut client, &app, &release).await
}

/// `POST /apps/A/gc`
pub(crate) async fn collect(
    State(controller): State<Controller>,
    Path(app): Path<String>,
) -> Answer<()> {
    let mut client = controller.client().await?;
    let change = Change::begin(&mut client).await?;
    let app = apps::find_id(change.tx(), &app).await?;
    queue::add(&change, &Task::AppGarbageCollection { app }).await?;
    Ok(change.commit().await?)
}

/// Takes a release away from an app, and altogether when no other app has a formation of it.
pub(crate) async fn delete_from(client: &mut Client, app: &App, release: &Release) -> Answer<()> {
    let (app_id, id) = (apps::id(app)?, release.id.clone().ok_or(Failure::NotFound)?);
    let mut change = Change::begin(client).await?;
    refuse_used(&change, &id).await?;
    delete_formation(&mut change, &app_id, release).await?;
    let others = other_apps(change.tx(), &app_id, &id).await?;
    let files = if others.is_empty() { retire(&change, release).await? } else { Vec::new() };
    let mut deletion = ReleaseDeletion {
        app: None,
        release: Some(id.clone()),
        remaining_apps: (!others.is_empty()).then_some(others),
        deleted_files: None,
    };
    if files.is_empty() {
        announce(&mut change, &app_id, &deletion)?;
    } else {
        deletion.app = Some(app_id);
        let deletion = Some(deletion);
        queue::add(&change, &Task::BlobCleanup { files, deletion }).await?;
    }
    change.commit().await?;
    tracing::info!(app = %app.name, release = %id, "release deleted");
    Ok(())
}

/// Tells of a deletion.
pub(crate) fn announce(
    change: &mut Change<'_>,
    app: &AppId,
    deletion: &ReleaseDeletion,
) -> Answer<()> {
    let id = rows::text_of(deletion.release.as_ref()).unwrap_or_default();
    let event =
        ReleaseDeletionEvent { release_deletion: Some(deletion.clone()), error: String::new() };
    change.announce(Some(app), EventType::ReleaseDeletion, id, Op::Other, &event)
}

/// Deletes a release and the images that were its alone. Answers the files of those in the blob store.
pub(crate) async fn retire(change: &Change<'_>, release: &Release) -> Answer<Vec<String>> {
    let id = rows::text_of(release.id.as_ref()).ok_or(Failure::NotFound)?;
    let images = artifacts::of_release(change.tx(), &id).await?;
    for query in [
        "UPDATE releases SET deleted_at = now() WHERE id = $1::text::uuid",
        "UPDATE release_artifacts SET deleted_at = now() WHERE release_id = $1::text::uuid",
    ] {
        change.tx().execute(query, &[&id]).await?;
    }
    let mut files = Vec::new();
    for image in images {
        let is_system = image.meta.get(META_SYSTEM_IMAGE).is_some_and(|text| text == "true");
        if is_system || is_used(change.tx(), &image).await? {
            continue;
        }
        files.extend(forget(change, &image).await?);
    }
    Ok(files)
}

/// Deletes an image that nothing uses. Answers its files, if they are in the blob store.
async fn forget(change: &Change<'_>, image: &Artifact) -> Answer<Vec<String>> {
    let query = "UPDATE artifacts SET deleted_at = now() WHERE id = $1::text::uuid";
    change.tx().execute(query, &[&rows::text_of(image.id.as_ref())]).await?;
    if image.meta.get(META_BLOBSTORE).is_none_or(|text| text != "true") {
        return Ok(Vec::new());
    }
    files_of(change.tx(), image).await
}

/// Deletes images in the blob store that have been without a release for so long, as a push that was cut
/// short leaves them. Answers how many.
pub(crate) async fn forget_unreleased(client: &mut Client, age: Duration) -> Answer<usize> {
    let change = Change::begin(client).await?;
    let images = artifacts::unreleased(change.tx(), age).await?;
    let mut files = Vec::new();
    for image in &images {
        files.extend(forget(&change, image).await?);
    }
    if !files.is_empty() {
        queue::add(&change, &Task::BlobCleanup { files, deletion: None }).await?;
    }
    change.commit().await?;
    Ok(images.len())
}

async fn refuse_used(change: &Change<'_>, release: &ReleaseId) -> Answer<()> {
    let current = "SELECT 1 FROM apps \
         WHERE release_id = $1::text::uuid AND deleted_at IS NULL LIMIT 1 FOR SHARE";
    if change.tx().query_opt(current, &[&release.as_str()]).await?.is_some() {
        return Err(Failure::invalid("cannot delete current app release"));
    }
    let deployed = "SELECT 1 FROM deployments WHERE finished_at IS NULL \
         AND $1::text::uuid IN (old_release_id, new_release_id) LIMIT 1";
    if change.tx().query_opt(deployed, &[&release.as_str()]).await?.is_some() {
        return Err(Failure::invalid("cannot delete a release that is being deployed"));
    }
    Ok(())
}

/// Wants no more jobs of the release; told as every change of a formation.
async fn delete_formation(change: &mut Change<'_>, app: &AppId, release: &Release) -> Answer<()> {
    let id = rows::text_of(release.id.as_ref()).unwrap_or_default();
    let Some(row) = formations::find_row(change.tx(), app.as_str(), &id).await? else {
        return Ok(());
    };
    if rows::maybe_time(&row, "deleted_at")?.is_some() {
        return Ok(());
    }
    let wanted = formations::from_row(&row)?.processes.unwrap_or_default();
    let zero = wanted.into_keys().map(|kind| (kind, 0)).collect();
    let request = ScaleRequest::pending(Some(zero), None);
    scaling::add_in(change, app, release, request, scaling::Kind::Delete).await.map(drop)
}

/// Apps besides this one that have a formation of the release.
pub(crate) async fn other_apps(
    db: &impl GenericClient,
    app: &AppId,
    release: &ReleaseId,
) -> Answer<Vec<AppId>> {
    let query = "SELECT app_id::text AS app_id FROM formations JOIN apps ON apps.id = app_id \
         WHERE formations.release_id = $1::text::uuid AND formations.deleted_at IS NULL \
         AND apps.deleted_at IS NULL AND app_id <> $2::text::uuid ORDER BY app_id";
    let found = db.query(query, &[&release.as_str(), &app.as_str()]).await?;
    found.iter().map(|row| rows::parsed(row, "app_id")).collect()
}

async fn is_used(db: &impl GenericClient, image: &Artifact) -> Answer<bool> {
    let query = "SELECT 1 FROM release_artifacts JOIN releases ON releases.id = release_id \
         WHERE artifact_id = $1::text::uuid AND release_artifacts.deleted_at IS NULL \
         AND releases.deleted_at IS NULL LIMIT 1";
    Ok(db.query_opt(query, &[&rows::text_of(image.id.as_ref())]).await?.is_some())
}

/// Its manifest, and its layers that no other image has.
async fn files_of(db: &impl GenericClient, image: &Artifact) -> Answer<Vec<String>> {
    let mut files = vec![image.uri.clone()];
    let manifest = image.manifest.clone().unwrap_or_default();
    let manifest: controller_api::ImageManifest =
        serde_json::from_value(manifest).unwrap_or_default();
    for layer in manifest.rootfs.into_iter().flat_map(|rootfs| rootfs.layers) {
        let with_layer = serde_json::json!({ "rootfs": [{ "layers": [{ "id": layer.id }] }] });
        let query = "SELECT 1 FROM artifacts WHERE deleted_at IS NULL AND manifest @> $1 LIMIT 1";
        if db.query_opt(query, &[&Jsonb(&with_layer)]).await?.is_some() {
            continue;
        }
        files.push(image.layer_url_template.replace("{id}", &layer.id));
        files.extend(layer.meta.get(META_TAR_LAYER).map(|id| format!("{TAR_LAYERS}/{id}.json")));
    }
    Ok(files)
}
