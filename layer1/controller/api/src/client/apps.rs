//! Calls about apps, artifacts, releases and deployments.

use std::collections::BTreeMap;

use kit_http::ClientError;
use kit_ids::{ArtifactId, DeploymentId, ReleaseId};
use serde::Serialize;

use super::{Client, path};
use crate::{App, AppUpdate, Artifact, Deployment, Release, Resource, Volume};

/// The body that names a release.
#[derive(Serialize)]
struct ReleaseRef<'a> {
    id: &'a ReleaseId,
}

#[derive(Serialize)]
struct MetaBody<'a> {
    meta: &'a BTreeMap<String, String>,
}

impl Client {
    /// All apps, the newest first.
    pub async fn apps(&self) -> Result<Vec<App>, ClientError> {
        self.http.get_json("/apps").await
    }

    /// One app.
    pub async fn app(&self, app: &str) -> Result<App, ClientError> {
        self.http.get_json(&path(&["apps", app])).await
    }

    /// Makes an app; the server fills in what is missing, its name too.
    pub async fn create_app(&self, app: &App) -> Result<App, ClientError> {
        self.http.post_json("/apps", app).await
    }

    /// Changes the parts of an app that the update holds.
    pub async fn update_app(&self, app: &str, update: &AppUpdate) -> Result<App, ClientError> {
        self.http.post_json(&path(&["apps", app]), update).await
    }

    /// Replaces an app's metadata; an empty map clears it.
    pub async fn set_app_meta(
        &self,
        app: &str,
        meta: &BTreeMap<String, String>,
    ) -> Result<App, ClientError> {
        self.http.post_json(&path(&["apps", app, "meta"]), &MetaBody { meta }).await
    }

    /// Asks for an app's deletion; the event `app_deletion` tells of its end.
    pub async fn delete_app(&self, app: &str) -> Result<(), ClientError> {
        self.http.delete(&path(&["apps", app])).await
    }

    /// Asks for the deletion of old releases; the event `app_garbage_collection` tells of its end.
    pub async fn collect_app(&self, app: &str) -> Result<(), ClientError> {
        self.post_empty(&path(&["apps", app, "gc"])).await
    }

    /// The release that runs; [`ClientError::is_not_found`] when none was ever set.
    pub async fn app_release(&self, app: &str) -> Result<Release, ClientError> {
        self.http.get_json(&path(&["apps", app, "release"])).await
    }

    /// Makes a release the current one at once, without a deployment.
    pub async fn set_app_release(&self, app: &str, id: &ReleaseId) -> Result<Release, ClientError> {
        self.http.put_json(&path(&["apps", app, "release"]), &ReleaseRef { id }).await
    }

    /// An app's releases, the newest first.
    pub async fn app_releases(&self, app: &str) -> Result<Vec<Release>, ClientError> {
        self.http.get_json(&path(&["apps", app, "releases"])).await
    }

    /// Deletes a release; the event `release_deletion` tells of its end.
    pub async fn delete_release(&self, app: &str, id: &ReleaseId) -> Result<(), ClientError> {
        self.http.delete(&path(&["apps", app, "releases", id.as_str()])).await
    }

    /// The resources an app uses.
    pub async fn app_resources(&self, app: &str) -> Result<Vec<Resource>, ClientError> {
        self.http.get_json(&path(&["apps", app, "resources"])).await
    }

    /// All artifacts, the newest first.
    pub async fn artifacts(&self) -> Result<Vec<Artifact>, ClientError> {
        self.http.get_json("/artifacts").await
    }

    /// One artifact.
    pub async fn artifact(&self, id: &ArtifactId) -> Result<Artifact, ClientError> {
        self.http.get_json(&path(&["artifacts", id.as_str()])).await
    }

    /// Makes an artifact, or answers the one with the same type and URI.
    pub async fn create_artifact(&self, artifact: &Artifact) -> Result<Artifact, ClientError> {
        self.http.post_json("/artifacts", artifact).await
    }

    /// All releases, the newest first.
    pub async fn releases(&self) -> Result<Vec<Release>, ClientError> {
        self.http.get_json("/releases").await
    }

    /// One release.
    pub async fn release(&self, id: &ReleaseId) -> Result<Release, ClientError> {
        self.http.get_json(&path(&["releases", id.as_str()])).await
    }

    /// Makes a release of the app it names.
    pub async fn create_release(&self, release: &Release) -> Result<Release, ClientError> {
        self.http.post_json("/releases", release).await
    }

    /// Starts the change to a release. `finished_at` in the answer means there is nothing to wait for.
    pub async fn deploy(&self, app: &str, id: &ReleaseId) -> Result<Deployment, ClientError> {
        self.http.post_json(&path(&["apps", app, "deploy"]), &ReleaseRef { id }).await
    }

    /// An app's deployments, the newest first.
    pub async fn deployments(&self, app: &str) -> Result<Vec<Deployment>, ClientError> {
        self.http.get_json(&path(&["apps", app, "deployments"])).await
    }

    /// One deployment.
    pub async fn deployment(&self, id: &DeploymentId) -> Result<Deployment, ClientError> {
        self.http.get_json(&path(&["deployments", id.as_str()])).await
    }

    /// All volumes.
    pub async fn volumes(&self) -> Result<Vec<Volume>, ClientError> {
        self.http.get_json("/volumes").await
    }

    /// Records a volume.
    pub async fn put_volume(&self, volume: &Volume) -> Result<Volume, ClientError> {
        let id = volume.id.as_ref().map_or("", |id| id.as_str());
        self.http.put_json(&path(&["volumes", id]), volume).await
    }

    /// An app's volumes.
    pub async fn app_volumes(&self, app: &str) -> Result<Vec<Volume>, ClientError> {
        self.http.get_json(&path(&["apps", app, "volumes"])).await
    }

    /// One volume of an app.
    pub async fn app_volume(&self, app: &str, id: &str) -> Result<Volume, ClientError> {
        self.http.get_json(&path(&["apps", app, "volumes", id])).await
    }

    /// Takes a volume out of use for new jobs.
    pub async fn decommission_volume(
        &self,
        app: &str,
        volume: &Volume,
    ) -> Result<Volume, ClientError> {
        let id = volume.id.as_ref().map_or("", |id| id.as_str());
        self.http.put_json(&path(&["apps", app, "volumes", id, "decommission"]), volume).await
    }
}
