//! The blob store as this crate uses it: stream a file in or out, replace it only if nobody else did.

use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use futures_util::Stream;
use kit_http::{Client, ClientError, Request, Response};
use std::time::Duration;

/// How long one file may take; the store's own bound on sizes keeps this far away.
const TRANSFER: Duration = Duration::from_secs(900);

/// A client of the blob store.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    http: Client,
}

/// Which version of a file one has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// There was none.
    Missing,
    /// The one with this tag.
    Tag(String),
}

/// What became of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// The file is the new one.
    Yes,
    /// Somebody else replaced it first.
    Conflict,
}

impl Blobs {
    pub(crate) fn new(http: Client) -> Self {
        Self { http }
    }

    /// A file, if there is one.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<(Version, Response)>, ClientError> {
        let response = self.http.send_raw(Request::get(path)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = response.checked().await?;
        let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        let version = Version::Tag(tag.unwrap_or_default().to_owned());
        Ok(Some((version, response)))
    }

    /// Replaces a file if it still is the version seen.
    pub(crate) async fn put<S>(
        &self,
        path: &str,
        body: S,
        seen: &Version,
    ) -> Result<Stored, ClientError>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let request = Request::new(Method::PUT, path).timeout(TRANSFER).body_stream(body);
        let request = match seen {
            Version::Missing => request.header(IF_NONE_MATCH, "*")?,
            Version::Tag(tag) => request.header(IF_MATCH, tag)?,
        };
        let response = self.http.send_raw(request).await?;
        if response.status() == StatusCode::PRECONDITION_FAILED {
            return Ok(Stored::Conflict);
        }
        response.checked().await.map(|_| Stored::Yes)
    }
}
