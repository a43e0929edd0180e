//! The typed client of the controller. One method per call of the API; streams in `streams.rs`.
//!
//! Apps and providers are named by id or name. Calls whose error says that a retry may help are
//! repeated for ten seconds, as the original client does.

mod apps;
mod jobs;
mod path;
mod resources;
mod routes;
mod scaling;
mod streams;

use std::time::Duration;

use kit_http::{ClientError, Ignored, Request, StatusBody};

pub use streams::{EventStream, EventsFrom, FormationStream};

use path::path;

/// How long a call is repeated while its error says that a retry may help.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// A client of the controller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: kit_http::Client,
}

impl Client {
    /// A client of the controller at `url` with this key.
    pub fn new(url: &str, key: &str) -> Result<Self, ClientError> {
        kit_http::Client::builder(url).key(key).retry_for(RETRY_FOR).build().map(Self::from_http)
    }

    /// A client over an HTTP client made elsewhere, with its own trust, resolver and retries.
    pub fn from_http(http: kit_http::Client) -> Self {
        Self { http }
    }

    /// The HTTP client, for what has no method here.
    pub fn http(&self) -> &kit_http::Client {
        &self.http
    }

    /// The cluster's CA certificate as PEM.
    pub async fn ca_cert(&self) -> Result<bytes::Bytes, ClientError> {
        self.http.send(Request::get("/ca-cert")).await?.bytes().await
    }

    /// How the controller says it is, well or not.
    pub async fn status(&self) -> Result<StatusBody, ClientError> {
        self.http.send_raw(Request::get(kit_http::STATUS_PATH)).await?.json().await
    }

    /// Whether somebody answers at all; needs no key.
    pub async fn ping(&self) -> Result<(), ClientError> {
        self.http.send(Request::get("/ping")).await.map(drop)
    }

    async fn post_empty(&self, path: &str) -> Result<(), ClientError> {
        self.http.call::<Ignored>(Request::new(http::Method::POST, path)).await.map(drop)
    }

    async fn delete_json<T>(&self, path: &str) -> Result<T, ClientError>
    where
        T: serde::de::DeserializeOwned,
    {
        self.http.call(Request::new(http::Method::DELETE, path)).await
    }
}
