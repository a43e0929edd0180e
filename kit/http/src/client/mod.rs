//! The one HTTP client: JSON calls, raw requests, streams, events and upgrades to Flynn services.
//! Not a browser: no cookies, no proxies, no compression.

mod config;
mod connect;
mod error;
mod events;
mod request;
mod response;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, LOCATION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

pub use config::ClientBuilder;
pub use connect::{Resolve, Resolved};
pub use error::ClientError;
pub use events::EventStream;
pub use request::Request;
pub use response::Response;

use crate::upgrade::{Upgraded, complete};

/// How many redirects a request follows.
const MAX_REDIRECTS: usize = 10;

/// The pause between two tries of a call whose error asks to be retried: the first and the longest.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A client of one service. Cheap to clone; clones share their connections.
///
/// Paths are relative to the base URL; an absolute URL works too, without the base's key.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Tried in turn when a server cannot be reached. Never empty.
    bases: Vec<Uri>,
    /// The base that answered last.
    current: AtomicUsize,
    http: hyper_util::client::legacy::Client<connect::Connector, Body>,
    authorization: Option<HeaderValue>,
    request_timeout: Duration,
    stream_timeout: Duration,
    retry_for: Duration,
    max_body: usize,
}

impl Client {
    /// A client of the service at `url` with all defaults.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::builder(url).build()
    }

    /// A client of the service at `url`, to be configured.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder::new(vec![url.to_owned()])
    }

    /// A client of a service that several servers offer: the next one is tried when one cannot be
    /// reached.
    pub fn builder_any<I: IntoIterator<Item = String>>(urls: I) -> ClientBuilder {
        ClientBuilder::new(urls.into_iter().collect())
    }

    /// The base URL that answered last.
    pub fn base(&self) -> &Uri {
        let current = self.inner.current.load(Ordering::Relaxed);
        &self.inner.bases[current % self.inner.bases.len()]
    }

    /// GET, reading JSON.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Request::get(path)).await
    }

    /// PUT of JSON, reading JSON. An empty answer reads as `null`: take `()`, an `Option` or
    /// [`crate::Ignored`] where no value comes back.
    pub async fn put_json<B, T>(&self, path: &str, body: &B) -> Result<T, ClientError>
    where
        B: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        self.call(Request::new(Method::PUT, path).json(body)?).await
    }

    /// POST of JSON, reading JSON; see [`put_json`](Self::put_json).
    pub async fn post_json<B, T>(&self, path: &str, body: &B) -> Result<T, ClientError>
    where
        B: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        self.call(Request::new(Method::POST, path).json(body)?).await
    }

    /// DELETE; the answer's body is ignored.
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.call::<crate::Ignored>(Request::new(Method::DELETE, path)).await.map(drop)
    }

    /// Any request whose answer is JSON. Repeats it while the error says that a retry may help and the
    /// client was built with [`ClientBuilder::retry_for`].
    pub async fn call<T: DeserializeOwned>(&self, request: Request) -> Result<T, ClientError> {
        if !request.is_repeatable() {
            return self.call_once(request).await;
        }
        let give_up = Instant::now() + self.inner.retry_for;
        let mut pause = kit_backoff::Backoff::new(RETRY_PAUSE, RETRY_PAUSE_MAX, rand::random());
        loop {
            let result = self.call_once(request.again()).await;
            let pause = match &result {
                Err(error) if error.is_retryable() => pause.next_delay(),
                Ok(_) | Err(_) => return result,
            };
            if Instant::now() + pause >= give_up {
                return result;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn call_once<T: DeserializeOwned>(&self, request: Request) -> Result<T, ClientError> {
        let within = request.timeout.unwrap_or(self.inner.request_timeout);
        let whole = async { self.send_following(request).await?.checked().await?.json().await };
        self.in_time("the whole answer", within, whole).await
    }

    /// Bounds a request's time. After one that took too long the next begins at another server: this one
    /// may be gone without a word, and so may be all connections to it that are kept.
    async fn in_time<T>(
        &self,
        what: &'static str,
        within: Duration,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let (current, count) = (&self.inner.current, self.inner.bases.len());
        let at = current.load(Ordering::Relaxed);
        let done = timed(what, within, work).await;
        if count > 1 && matches!(done, Err(ClientError::Timeout { .. })) {
            let next = (at + 1) % count;
            // Another request may have seen to it already.
            let _ = current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        done
    }

    /// Sends a request and gives the answer's head once it came with a 2xx status; the body is still to
    /// be read.
    pub async fn send(&self, request: Request) -> Result<Response, ClientError> {
        let within = request.timeout.unwrap_or(self.inner.request_timeout);
        let checked = async { self.send_following(request).await?.checked().await };
        self.in_time("the answer", within, checked).await
    }

    /// [`send`](Self::send) that gives answers of any status; redirects are followed all the same.
    pub async fn send_raw(&self, request: Request) -> Result<Response, ClientError> {
        let within = request.timeout.unwrap_or(self.inner.request_timeout);
        self.in_time("the answer", within, self.send_following(request)).await
    }

    /// Opens a stream of events, resuming after `last_id` where the server knows how.
    pub async fn events(
        &self,
        path: &str,
        last_id: Option<&str>,
    ) -> Result<EventStream, ClientError> {
        let mut request = Request::get(path);
        if let Some(id) = last_id {
            request = request.header(HeaderName::from_static("last-event-id"), id)?;
        }
        self.events_of(request).await
    }

    /// Opens a stream of events with any request.
    pub async fn events_of(&self, request: Request) -> Result<EventStream, ClientError> {
        let request = request.header(ACCEPT, "text/event-stream")?;
        let silence = self.inner.stream_timeout;
        Ok(EventStream::new(self.send(request).await?, silence))
    }

    /// Sends a request that ends in a raw connection both ways: the server must answer `101` for
    /// `protocol`.
    pub async fn upgrade(&self, request: Request, protocol: &str) -> Result<Upgraded, ClientError> {
        let request = request.header(CONNECTION, "upgrade")?.header(UPGRADE, protocol)?;
        let response = self.send_raw(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            // Errors have their own text; a success without an upgrade is one of the server.
            timed("the answer", self.inner.request_timeout, response.checked()).await?;
            return Err(ClientError::NotUpgraded { status });
        }
        let url = response.url().to_string();
        let upgrade = hyper::upgrade::on(response.into_inner());
        complete(upgrade).await.map_err(|source| ClientError::Upgrade { url, source })
    }

    /// Sends to the bases in turn until one can be reached, and follows redirects.
    async fn send_following(&self, mut request: Request) -> Result<Response, ClientError> {
        let first = self.inner.current.load(Ordering::Relaxed);
        let count = self.inner.bases.len();
        for turn in 0..count {
            let at = (first + turn) % count;
            let url = request::join(&self.inner.bases[at], &request.path)?;
            let is_last = turn + 1 == count || !request.is_repeatable();
            let attempt = if is_last { request.take() } else { request.again() };
            match self.follow(attempt, url, &self.inner.bases[at]).await {
                Err(error) if error.is_connect() && !is_last => {
                    tracing::debug!(%error, "server not reached, trying the next one");
                }
                result => {
                    self.inner.current.store(at, Ordering::Relaxed);
                    return result;
                }
            }
        }
        Err(ClientError::NoServer)
    }

    async fn follow(
        &self,
        mut request: Request,
        mut url: Uri,
        base: &Uri,
    ) -> Result<Response, ClientError> {
        for _ in 0..=MAX_REDIRECTS {
            let is_repeatable = request.is_repeatable();
            let attempt = if is_repeatable { request.again() } else { request.take() };
            let response = self.send_once(attempt, &url, base).await?;
            let Some(location) = redirect(response.status(), response.headers(), &request.method)
            else {
                return Ok(response);
            };
            if !is_repeatable {
                return Err(ClientError::BodyNotRepeatable { location });
            }
            url = request::join(&url, &location)?;
        }
        Err(ClientError::TooManyRedirects { limit: MAX_REDIRECTS })
    }

    async fn send_once(
        &self,
        request: Request,
        url: &Uri,
        base: &Uri,
    ) -> Result<Response, ClientError> {
        // The key belongs to the service it was given for, not to where that redirects.
        let is_own = url.authority() == base.authority() && url.scheme() == base.scheme();
        let authorization = self.inner.authorization.as_ref().filter(|_| is_own);
        let request = build(request, url, authorization)?;
        let response = self.inner.http.request(request).await;
        match response {
            Ok(response) => Ok(Response::new(response, url.clone(), self.inner.max_body)),
            Err(source) if source.is_connect() => {
                Err(ClientError::Connect { url: url.to_string(), source: source.into() })
            }
            Err(source) => {
                Err(ClientError::Transport { url: url.to_string(), source: source.into() })
            }
        }
    }
}

fn build(
    request: Request,
    url: &Uri,
    authorization: Option<&HeaderValue>,
) -> Result<http::Request<Body>, ClientError> {
    let mut headers = request.headers;
    if !headers.contains_key(ACCEPT) {
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    }
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let (Some(value), false) = (authorization, headers.contains_key(AUTHORIZATION)) {
        headers.insert(AUTHORIZATION, value.clone());
    }
    let body = match request.body {
        request::Payload::Whole(bytes) => Body::from(bytes),
        request::Payload::Stream(body) => body,
    };
    let mut whole = http::Request::new(body);
    *whole.method_mut() = request.method;
    *whole.uri_mut() = url.clone();
    *whole.headers_mut() = headers;
    Ok(whole)
}

/// Where an answer sends us: 307 and 308 for any method, the others for those that change nothing.
fn redirect(status: StatusCode, headers: &HeaderMap, method: &Method) -> Option<String> {
    let is_followed = match status.as_u16() {
        307 | 308 => true,
        301..=303 => *method == Method::GET || *method == Method::HEAD,
        _ => false,
    };
    let location = headers.get(LOCATION).filter(|_| is_followed)?;
    location.to_str().ok().map(str::to_owned)
}

async fn timed<T>(
    what: &'static str,
    within: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(within, work).await {
        Ok(result) => result,
        Err(_) => Err(ClientError::Timeout { what, within }),
    }
}

/// The value of an `Authorization` header for a key: user name empty, password the key.
fn basic(key: &str) -> Result<HeaderValue, ClientError> {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!(":{key}"));
    let value = HeaderValue::from_maybe_shared(Bytes::from(format!("Basic {encoded}")));
    let mut value =
        value.map_err(|_| ClientError::BadHeader { name: AUTHORIZATION.to_string() })?;
    value.set_sensitive(true);
    Ok(value)
}
