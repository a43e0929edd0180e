//! A request to be sent, and how its path joins a base URL.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::Stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;

use super::error::ClientError;

/// A request to be sent by [`Client`](super::Client).
#[derive(Debug)]
pub struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Payload,
    pub(super) timeout: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Payload {
    /// Can be sent again.
    Whole(Bytes),
    /// Can be sent once.
    Stream(Body),
}

impl Request {
    /// A request without a body. `path` starts with a slash and may have a query; an absolute URL is
    /// taken as it is.
    pub fn new(method: Method, path: &str) -> Self {
        let (headers, body) = (HeaderMap::new(), Payload::Whole(Bytes::new()));
        Self { method, path: path.to_owned(), headers, body, timeout: None }
    }

    /// A GET request.
    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    /// With this value as its JSON body.
    pub fn json<B: Serialize + ?Sized>(self, body: &B) -> Result<Self, ClientError> {
        let bytes = crate::encode_json(body).map_err(ClientError::Encode)?;
        self.header(CONTENT_TYPE, "application/json").map(|request| request.body(bytes))
    }

    /// With these bytes as its body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: Payload::Whole(body.into()), ..self }
    }

    /// With a body that is made while it is sent. Such a request cannot be repeated or redirected.
    #[must_use]
    pub fn body_stream<S, E>(self, body: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        Self { body: Payload::Stream(Body::from_stream(body)), ..self }
    }

    /// With this header, in place of an earlier one of the name.
    pub fn header(mut self, name: HeaderName, value: &str) -> Result<Self, ClientError> {
        let parsed = HeaderValue::from_str(value);
        let parsed = parsed.map_err(|_| ClientError::BadHeader { name: name.to_string() })?;
        self.headers.insert(name, parsed);
        Ok(self)
    }

    /// With a time-out of its own in place of the client's.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    pub(super) fn is_repeatable(&self) -> bool {
        match self.body {
            Payload::Whole(_) => true,
            Payload::Stream(_) => false,
        }
    }

    /// The same request; one that cannot be repeated leaves its body behind.
    pub(super) fn again(&self) -> Self {
        let body = match &self.body {
            Payload::Whole(bytes) => Payload::Whole(bytes.clone()),
            Payload::Stream(_) => Payload::Whole(Bytes::new()),
        };
        let (method, path, headers) =
            (self.method.clone(), self.path.clone(), self.headers.clone());
        Self { method, path, headers, body, timeout: self.timeout }
    }

    /// The same request with the body, which this one loses.
    pub(super) fn take(&mut self) -> Self {
        let body = std::mem::replace(&mut self.body, Payload::Whole(Bytes::new()));
        Self { body, ..self.again() }
    }
}

/// `path` below `base`, or `path` itself where it is a URL.
pub(super) fn join(base: &Uri, path: &str) -> Result<Uri, ClientError> {
    let bad = || ClientError::BadUrl { url: path.to_owned() };
    if path.starts_with("http://") || path.starts_with("https://") {
        return path.parse().map_err(|_| bad());
    }
    let (Some(scheme), Some(authority), true) =
        (base.scheme_str(), base.authority(), path.starts_with('/'))
    else {
        return Err(bad());
    };
    // A Location may leave out the scheme only.
    if path.starts_with("//") {
        return format!("{scheme}:{path}").parse().map_err(|_| bad());
    }
    format!("{scheme}://{authority}{path}").parse().map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_join_their_base() {
        let base = "http://h:81/ignored?x".parse().unwrap();
        for (path, want) in [
            ("/a?b=c", Some("http://h:81/a?b=c")),
            ("https://other/x", Some("https://other/x")),
            ("//other/x", Some("http://other/x")),
            ("a", None),
            ("", None),
            ("/a b", None),
            ("ftp://x/", None),
        ] {
            assert_eq!(
                join(&base, path).ok().map(|uri| uri.to_string()).as_deref(),
                want,
                "{path}"
            );
        }
    }
}
