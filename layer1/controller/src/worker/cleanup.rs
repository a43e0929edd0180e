//! Files that nothing needs any more go from the blob store.

use controller_api::ReleaseDeletion;
use kit_http::{ApiError, Request};

use super::Worker;
use crate::change::Change;
use crate::failure::{Answer, Failure};
use crate::queue::Claim;
use crate::release_deletion;

/// Where files are deleted, with the cluster's key. An image elsewhere is not ours to delete.
pub(super) const BLOBSTORE: &str = "http://blobstore.discoverd";

/// Deletes the files, then tells of the release that they belonged to.
pub(super) async fn perform(
    worker: &Worker,
    claim: &Claim,
    files: &[String],
    deletion: Option<&ReleaseDeletion>,
) -> Answer<()> {
    for path in files.iter().filter_map(|file| file.strip_prefix(BLOBSTORE)) {
        delete(worker, path).await?;
    }
    let mut client = worker.client().await?;
    let mut change = Change::begin(&mut client).await?;
    claim.finish(&change).await?;
    if let Some(deletion) = deletion
        && let Some(app) = &deletion.app
    {
        let deletion = ReleaseDeletion { deleted_files: Some(files.to_vec()), ..deletion.clone() };
        release_deletion::announce(&mut change, app, &deletion)?;
    }
    Ok(change.commit().await?)
}

/// A file that is gone already is fine.
async fn delete(worker: &Worker, path: &str) -> Answer<()> {
    let away = |error: &dyn std::fmt::Display| {
        let text = format!("{path} could not be deleted from the blob store: {error}");
        Failure::Api(ApiError::service_unavailable(text))
    };
    let request = Request::new(http::Method::DELETE, path);
    let answer = worker.0.blobs.send_raw(request).await.map_err(|error| away(&error))?;
    match answer.status().as_u16() {
        200 | 202 | 204 | 404 => Ok(()),
        status => Err(away(&format!("unexpected status code {status}"))),
    }
}
