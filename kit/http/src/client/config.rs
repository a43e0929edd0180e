//! How a client is set up; all defaults stand here.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connect::{Connector, Dial, Resolve};
use super::error::ClientError;
use super::{Client, Inner, basic};

/// How long one address may take to answer a connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a whole JSON call, or the head of another answer, may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a stream of events may be silent: three keep-alives of the server.
const STREAM_TIMEOUT: Duration = Duration::from_secs(90);
/// How much of a body is read into memory.
const MAX_BODY: usize = 64 << 20;
/// Servers close idle connections after 30 s; ours go first, so that no request meets a closed one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Idle connections kept per server.
const MAX_IDLE: usize = 8;

/// A client to be. Made by [`Client::builder`].
#[derive(Debug)]
pub struct ClientBuilder {
    urls: Vec<String>,
    key: Option<String>,
    tls: Option<Arc<rustls::ClientConfig>>,
    resolver: Option<Arc<dyn Resolve>>,
    unix: Option<PathBuf>,
    connect_timeout: Duration,
    request_timeout: Duration,
    stream_timeout: Duration,
    retry_for: Duration,
    max_body: usize,
}

impl ClientBuilder {
    pub(super) fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            key: None,
            tls: None,
            resolver: None,
            unix: None,
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            stream_timeout: STREAM_TIMEOUT,
            retry_for: Duration::ZERO,
            max_body: MAX_BODY,
        }
    }

    /// Sends basic auth with an empty user and this key. It is not sent to other hosts.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// How https servers are trusted; see kit-tls for pins, a cluster's CA and the system's roots.
    /// Without it, https URLs fail.
    #[must_use]
    pub fn tls(self, config: Arc<rustls::ClientConfig>) -> Self {
        Self { tls: Some(config), ..self }
    }

    /// Asks this resolver first, before the system.
    #[must_use]
    pub fn resolver(self, resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver: Some(resolver), ..self }
    }

    /// Dials this unix socket whatever the URL says.
    #[must_use]
    pub fn unix_socket(self, path: impl Into<PathBuf>) -> Self {
        Self { unix: Some(path.into()), ..self }
    }

    /// How long one address may take to answer a connect (1 s).
    #[must_use]
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// How long a JSON call, or the head of another answer, may take (30 s).
    #[must_use]
    pub fn request_timeout(self, request_timeout: Duration) -> Self {
        Self { request_timeout, ..self }
    }

    /// How long a stream of events may be silent (90 s).
    #[must_use]
    pub fn stream_timeout(self, stream_timeout: Duration) -> Self {
        Self { stream_timeout, ..self }
    }

    /// Repeats JSON calls for this long while their error says that a retry may help (not at all).
    #[must_use]
    pub fn retry_for(self, retry_for: Duration) -> Self {
        Self { retry_for, ..self }
    }

    /// How much of a body is read into memory (64 MiB).
    #[must_use]
    pub fn max_body(self, max_body: usize) -> Self {
        Self { max_body, ..self }
    }

    /// The client.
    pub fn build(self) -> Result<Client, ClientError> {
        let bases: Vec<Uri> =
            self.urls.iter().map(|url| parse_base(url)).collect::<Result<_, _>>()?;
        if bases.is_empty() {
            return Err(ClientError::NoServer);
        }
        let dial = match self.unix {
            Some(path) => Dial::Unix(path),
            None => Dial::Tcp { resolver: self.resolver, timeout: self.connect_timeout },
        };
        // The pool's executor runs one task per connection, which ends with its connection.
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(Connector::new(dial, self.tls, self.connect_timeout));
        let authorization = self.key.as_deref().map(basic).transpose()?;
        Ok(Client {
            inner: Arc::new(Inner {
                bases,
                current: AtomicUsize::new(0),
                http,
                authorization,
                request_timeout: self.request_timeout,
                stream_timeout: self.stream_timeout,
                retry_for: self.retry_for,
                max_body: self.max_body,
            }),
        })
    }
}

/// A base must name its scheme and host. `host:port` alone means http.
fn parse_base(url: &str) -> Result<Uri, ClientError> {
    let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let bad = || ClientError::BadUrl { url: url.to_owned() };
    let uri: Uri = whole.parse().map_err(|_| bad())?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    if is_known && uri.host().is_some_and(|host| !host.is_empty()) { Ok(uri) } else { Err(bad()) }
}
