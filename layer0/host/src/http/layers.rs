//! Layers and images for other hosts and for controllers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, StatusCode};
use kit_http::{ApiError, Json};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::host::Host;

/// A layer's squashfs file; a download that broke goes on with `Range: bytes=N-`.
pub(super) async fn layer(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let missing = || ApiError::object_not_found(format!("no layer with id {id:?}"));
    let name = id.strip_suffix(".squashfs").unwrap_or(&id);
    let key = name.parse().map_err(|_| missing())?;
    let mut file = tokio::fs::File::open(host.layers.file(&key)).await.map_err(|_| missing())?;
    let about = file.metadata().await.map_err(|error| ApiError::internal(&error))?;
    let size = about.len();
    let from = range_start(&headers).filter(|from| *from < size).unwrap_or(0);
    file.seek(std::io::SeekFrom::Start(from)).await.map_err(|error| ApiError::internal(&error))?;
    let mut response = Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_LENGTH, size - from);
    if from > 0 {
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(CONTENT_RANGE, format!("bytes {from}-{}/{size}", size - 1));
    }
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(size - from), 64 * 1024));
    response.body(body).map_err(|error| ApiError::internal(&error))
}

/// The artifacts of all images by name, with this host's URLs.
pub(super) async fn images(
    State(host): State<Arc<Host>>,
) -> Result<Json<BTreeMap<String, Value>>, ApiError> {
    let images = host.images.all().map_err(|error| ApiError::internal(&error))?.into_iter();
    let images = images.map(|image| image.served_by(&host.url));
    Ok(Json(images.map(|image| (image.name, image.artifact)).collect()))
}

/// An image's manifest, byte for byte what its id is the digest of.
pub(super) async fn manifest(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let found = host.images.by_manifest(&id).map_err(|error| ApiError::internal(&error))?;
    let text = found.and_then(|image| image.manifest_text());
    let text =
        text.ok_or_else(|| ApiError::object_not_found(format!("no image with id {id:?}")))?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

/// `bytes=N-`, the only kind that is asked for.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}
