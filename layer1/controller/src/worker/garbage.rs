//! Releases that pushes made and that nobody runs any more, beyond as many as an app keeps; and images of
//! pushes that never came to their release.

use std::collections::BTreeSet;

use controller_api::{
    AppGarbageCollection, AppGarbageCollectionEvent, EventType, META_GC_MAX_INACTIVE, Release,
};
use kit_ids::{AppId, ReleaseId};
use kit_pg::GenericClient;

use super::Worker;
use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::queue::Claim;
use crate::{apps, artifacts, formations, release_deletion, releases};

const META_GIT: &str = "git";

/// Deletes an app's superfluous releases. One that cannot be deleted stays.
pub(super) async fn collect(worker: &Worker, claim: &Claim, app: &AppId) -> Answer<()> {
    let mut client = worker.client().await?;
    let app = match apps::find(&client, app.as_str()).await {
        Ok(app) => app,
        // It went meanwhile, with all its releases.
        Err(Failure::NotFound) => {
            let change = Change::begin(&mut client).await?;
            claim.finish(&change).await?;
            return Ok(change.commit().await?);
        }
        Err(failure) => return Err(failure),
    };
    let id = apps::id(&app)?;
    let mut deleted = Vec::new();
    if let Some(kept) = app.meta.get(META_GC_MAX_INACTIVE).and_then(|text| text.parse().ok()) {
        for release in superfluous(&client, &id, kept).await? {
            match release_deletion::delete_from(&mut client, &app, &release).await {
                Ok(()) => deleted.extend(release.id),
                Err(failure) => {
                    tracing::info!(app = %app.name, release = ?release.id, ?failure, "release stays");
                }
            }
        }
    }
    let mut change = Change::begin(&mut client).await?;
    claim.finish(&change).await?;
    announce(&mut change, &id, deleted)?;
    Ok(change.commit().await?)
}

/// Looks for images without a release again and again.
pub(super) async fn keep_collecting_images(worker: Worker) {
    loop {
        let collected = async {
            let mut client = worker.client().await?;
            release_deletion::forget_unreleased(&mut client, worker.0.config.unreleased).await
        };
        match collected.await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "images without a release were deleted"),
            Err(failure) => tracing::warn!(?failure, "images without a release stay for now"),
        }
        tokio::time::sleep(worker.0.config.collection).await;
    }
}

fn announce(change: &mut Change<'_>, app: &AppId, deleted: Vec<ReleaseId>) -> Answer<()> {
    let collection = AppGarbageCollection {
        app_id: Some(app.clone()),
        deleted_releases: (!deleted.is_empty()).then_some(deleted),
    };
    let event = AppGarbageCollectionEvent {
        app_garbage_collection: Some(collection),
        error: String::new(),
    };
    change.announce(Some(app), EventType::AppGarbageCollection, app, Op::Other, &event)
}

/// Inactive releases made by a push that are older than the newest `kept` different slugs of such.
async fn superfluous(db: &impl GenericClient, app: &AppId, kept: usize) -> Answer<Vec<Release>> {
    let active: BTreeSet<ReleaseId> = formations::of_app(db, app)
        .await?
        .into_iter()
        .filter(|formation| formation.processes.iter().flatten().any(|(_, count)| *count > 0))
        .filter_map(|formation| formation.release)
        .collect();
    let current = apps::find(db, app.as_str()).await?.release;
    let mut slugs = BTreeSet::new();
    let mut superfluous = Vec::new();
    for release in releases::of_app(db, app).await? {
        let is_active = release.id.as_ref().is_none_or(|id| active.contains(id));
        let is_git = release.meta.get(META_GIT).is_some_and(|text| text == "true");
        if is_active || release.id == current || !is_git {
            continue;
        }
        let id = release.id.as_ref().map_or("", |id| id.as_str());
        // The slug is the image above the one that runs it.
        let Some(slug) = artifacts::of_release(db, id).await?.into_iter().nth(1) else { continue };
        if slugs.len() >= kept {
            superfluous.push(release);
        } else {
            slugs.insert(slug.uri);
        }
    }
    Ok(superfluous)
}
