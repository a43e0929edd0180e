//! Calls about formations and scale requests.

use kit_http::ClientError;
use kit_ids::ReleaseId;

use super::{Client, path};
use crate::{ExpandedFormation, Formation, ScaleRequest};

impl Client {
    /// An app's formations.
    pub async fn formations(&self, app: &str) -> Result<Vec<Formation>, ClientError> {
        self.http.get_json(&path(&["apps", app, "formations"])).await
    }

    /// One formation.
    pub async fn formation(
        &self,
        app: &str,
        release: &ReleaseId,
    ) -> Result<Formation, ClientError> {
        self.http.get_json(&formation_path(app, release)).await
    }

    /// One formation with everything needed to start its jobs.
    pub async fn expanded_formation(
        &self,
        app: &str,
        release: &ReleaseId,
    ) -> Result<ExpandedFormation, ClientError> {
        self.http.get_json(&format!("{}?expand=true", formation_path(app, release))).await
    }

    /// States the wanted counts of a release; types not named become zero only when none is named.
    pub async fn put_formation(
        &self,
        app: &str,
        release: &ReleaseId,
        formation: &Formation,
    ) -> Result<Formation, ClientError> {
        self.http.put_json(&formation_path(app, release), formation).await
    }

    /// Scales a release to nothing and deletes its formation.
    pub async fn delete_formation(
        &self,
        app: &str,
        release: &ReleaseId,
    ) -> Result<(), ClientError> {
        self.http.delete(&formation_path(app, release)).await
    }

    /// All formations that want at least one job.
    pub async fn active_formations(&self) -> Result<Vec<ExpandedFormation>, ClientError> {
        self.http.get_json("/formations?active=true").await
    }

    /// Makes a scale request, or (with a state other than pending) tells what became of one.
    pub async fn put_scale(
        &self,
        app: &str,
        release: &ReleaseId,
        request: &ScaleRequest,
    ) -> Result<ScaleRequest, ClientError> {
        self.http.put_json(&path(&["apps", app, "scale", release.as_str()]), request).await
    }
}

fn formation_path(app: &str, release: &ReleaseId) -> String {
    path(&["apps", app, "formations", release.as_str()])
}
