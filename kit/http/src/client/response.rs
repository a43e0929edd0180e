//! An answer whose head has come and whose body is read as the caller wants: whole, as JSON, or piece by
//! piece.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use crate::error::ApiError;
use crate::json::is_json;

/// How much of an unexpected answer is kept for its error.
const SHOWN_BODY: usize = 1 << 10;

/// How long a body that is read into memory may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// How much of an error's body is read.
const ERROR_BODY: usize = 1 << 20;

/// An answer of a server.
#[derive(Debug)]
pub struct Response {
    response: http::Response<Incoming>,
    url: Uri,
    max_body: usize,
}

impl Response {
    pub(super) fn new(response: http::Response<Incoming>, url: Uri, max_body: usize) -> Self {
        Self { response, url, max_body }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The URL that answered, after redirects.
    pub fn url(&self) -> &Uri {
        &self.url
    }

    pub(super) fn into_inner(self) -> http::Response<Incoming> {
        self.response
    }

    /// The answer if its status is 2xx, otherwise the error it stands for.
    pub async fn checked(self) -> Result<Self, ClientError> {
        let status = self.status();
        if status.is_success() {
            return Ok(self);
        }
        let url = self.url.to_string();
        let json = is_json(self.headers());
        let body = Self { max_body: ERROR_BODY, ..self }.bytes().await?;
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) if json => Err(ClientError::Api { status, error: Box::new(error) }),
            Ok(_) | Err(_) if status == StatusCode::NOT_FOUND => Err(ClientError::NotFound { url }),
            Ok(_) | Err(_) => {
                let body =
                    String::from_utf8_lossy(&body[..body.len().min(SHOWN_BODY)]).into_owned();
                Err(ClientError::Status { status, url, body })
            }
        }
    }

    /// The whole body. Each piece must come within 60 s; who wants the whole within some time
    /// brings a time-out, as [`Client::call`](super::Client::call) does.
    pub async fn bytes(self) -> Result<Bytes, ClientError> {
        let (url, limit) = (self.url.to_string(), self.max_body);
        let mut pieces = std::pin::pin!(self.into_stream(Some(SILENCE)));
        let mut whole = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if whole.len() + piece.len() > limit {
                return Err(ClientError::TooLarge { url, limit });
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// The whole body as JSON; an empty body reads as `null`.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let url = self.url.to_string();
        let body = self.bytes().await?;
        let text: &[u8] = if body.trim_ascii().is_empty() { b"null" } else { &body };
        serde_json::from_slice(text).map_err(|source| ClientError::Decode { url, source })
    }

    /// The body as it comes. `silence` bounds the wait for each piece; with None only a dead connection
    /// (TCP keep-alive) ends it, for streams that may rightly be silent.
    pub fn into_stream(
        self,
        silence: Option<Duration>,
    ) -> impl Stream<Item = Result<Bytes, ClientError>> + Send + 'static {
        let pieces = self.response.into_body().into_data_stream();
        let url = self.url.to_string();
        stream::unfold(Some((pieces, url)), move |state| async move {
            let (mut pieces, url) = state?;
            let next = match silence {
                Some(within) => match tokio::time::timeout(within, pieces.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        let what = "the next piece of the answer";
                        return Some((Err(ClientError::Timeout { what, within }), None));
                    }
                },
                None => pieces.next().await,
            };
            match next? {
                Ok(bytes) => Some((Ok(bytes), Some((pieces, url)))),
                Err(source) => {
                    Some((Err(ClientError::Transport { url, source: source.into() }), None))
                }
            }
        })
    }
}
