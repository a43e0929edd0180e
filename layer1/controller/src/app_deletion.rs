//! The deletion of an app with what is its alone: jobs, routes, resources, releases.
//!
//! It is done before the request is answered. Each step can be repeated, so a deletion that was cut
//! short is finished by asking again; the app itself goes last. Its files in the blob store go
//! afterwards, in the background.

use axum::extract::{Path, State};
use controller_api::{
    App, AppDeletion, AppDeletionEvent, EventType, Release, ReleaseDeletion, Resource, Route,
    ScaleRequest,
};
use kit_ids::AppId;

use crate::change::{Change, Op};
use crate::failure::{Answer, Failure};
use crate::queue::{self, Task};
use crate::server::Controller;
use crate::{apps, formations, release_deletion, releases, resources, routes, scaling};

/// `DELETE /apps/A`
pub(crate) async fn delete(
    State(controller): State<Controller>,
    Path(app): Path<String>,
) -> Answer<()> {
    let app = apps::find(&controller.client().await?, &app).await?;
    let id = apps::id(&app)?;
    let done = delete_all(&controller, &app, &id).await;
    if let Err(failure) = &done {
        tell_failure(&controller, &id, failure).await;
    }
    done
}

async fn delete_all(controller: &Controller, app: &App, id: &AppId) -> Answer<()> {
    stop_all(controller, id).await?;
    let deleted_routes = routes::delete_all_of(controller, id).await?;
    let deleted_resources = resources::delete_all_of(controller, id).await?;
    let mut client = controller.client().await?;
    let mut change = Change::begin(&mut client).await?;
    let deleted_releases = forget(&mut change, app, id).await?;
    let deletion = AppDeletion {
        app: Some(id.clone()),
        deleted_routes: some::<Route>(deleted_routes),
        deleted_resources: some::<Resource>(deleted_resources),
        deleted_releases: some::<Release>(deleted_releases),
    };
    let event = AppDeletionEvent { app_deletion: Some(deletion), error: String::new() };
    change.announce(Some(id), EventType::AppDeletion, id, Op::Other, &event)?;
    Ok(change.commit().await?)
}

/// Wants no more jobs of any release; the scheduler stops those that run.
async fn stop_all(controller: &Controller, app: &AppId) -> Answer<()> {
    let mut client = controller.client().await?;
    for formation in formations::of_app(&client, app).await? {
        let release = formation.release.as_ref().map_or("", |id| id.as_str());
        let release = releases::find(&client, release).await?;
        let wanted = formation.processes.unwrap_or_default();
        let zero = wanted.into_keys().map(|kind| (kind, 0)).collect();
        let request = ScaleRequest::pending(Some(zero), None);
        scaling::add(&mut client, app, &release, request, scaling::Kind::Delete).await?;
    }
    Ok(())
}

/// The releases that went with the app: all that no other app has a formation of.
async fn forget(change: &mut Change<'_>, app: &App, id: &AppId) -> Answer<Vec<Release>> {
    let mut files = files_of_builds(id);
    let mut gone = Vec::new();
    for release in releases::of_app(change.tx(), id).await? {
        let release_id = release.id.clone().ok_or(Failure::NotFound)?;
        if !release_deletion::other_apps(change.tx(), id, &release_id).await?.is_empty() {
            continue;
        }
        let deleted = release_deletion::retire(change, &release).await?;
        let deletion = ReleaseDeletion {
            app: Some(id.clone()),
            release: Some(release_id),
            remaining_apps: None,
            deleted_files: some(deleted.clone()),
        };
        release_deletion::announce(change, id, &deletion)?;
        files.extend(deleted);
        gone.push(release);
    }
    for query in [
        "UPDATE apps SET release_id = NULL, deleted_at = now() WHERE id = $1::text::uuid",
        "DELETE FROM app_resources WHERE app_id = $1::text::uuid",
    ] {
        change.tx().execute(query, &[&id.as_str()]).await?;
    }
    queue::add(change, &Task::BlobCleanup { files, deletion: None }).await?;
    tracing::info!(app = %app.name, "app deleted");
    Ok(gone)
}

/// What builds of the app leave in the blob store: its repository and its cache.
fn files_of_builds(id: &AppId) -> Vec<String> {
    let base = "http://blobstore.discoverd";
    vec![format!("{base}/repos/{id}.tar"), format!("{base}/{id}-cache.tgz")]
}

/// Whoever waits for the event learns why the app is still there.
async fn tell_failure(controller: &Controller, id: &AppId, failure: &Failure) {
    let error = match failure {
        Failure::NotFound => "an object of the app was deleted meanwhile".to_owned(),
        Failure::Api(error) => error.to_string(),
    };
    let deletion = AppDeletion { app: Some(id.clone()), ..AppDeletion::default() };
    let event = AppDeletionEvent { app_deletion: Some(deletion), error };
    let told = async {
        let mut client = controller.client().await?;
        let mut change = Change::begin(&mut client).await?;
        change.announce(Some(id), EventType::AppDeletion, id, Op::Other, &event)?;
        Ok::<_, Failure>(change.commit().await?)
    };
    if told.await.is_err() {
        tracing::warn!(app = %id, "the failed deletion of an app could not be told");
    }
}

/// Nothing is null on the wire.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}
