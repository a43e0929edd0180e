//! The controller as the commands see it: calls by path segments, and events that resume. Not a model
//! of its resources; what is sent and answered are the types of `controller-api`.

mod events;
mod path;

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use kit_http::{Client, ClientError, Request, Response, Upgraded};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use events::{Events, EventsEnd};
pub(crate) use path::Path;

use crate::failure::Failure;
use crate::rc::Cluster;

/// How long a call is repeated while the controller says that a retry may help.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// How long one call may take: stopping a job waits for it to end, up to 30 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an attached job may take to start: its image may have to be fetched.
const START_TIMEOUT: Duration = Duration::from_secs(330);

/// One cluster's controller.
#[derive(Clone, Debug)]
pub(crate) struct Controller {
    http: Client,
}

impl Controller {
    /// A connection to be; nothing is sent yet.
    pub(crate) fn of(cluster: &Cluster) -> Result<Self, Failure> {
        let mut builder = Client::builder(&cluster.controller_url)
            .key(&cluster.key)
            .request_timeout(CALL_TIMEOUT)
            .retry_for(RETRY_FOR);
        if cluster.controller_url.starts_with("https://") {
            builder = builder.tls(trust(cluster)?);
        }
        Ok(Self { http: builder.build()? })
    }

    /// GET of an object.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: Path) -> Result<T, Failure> {
        Ok(self.http.get_json(path.as_str()).await?)
    }

    /// GET of an object that may not be there.
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: Path) -> Result<Option<T>, Failure> {
        match self.http.get_json(path.as_str()).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// POST of an object.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: Path,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        Ok(self.http.post_json(path.as_str(), body).await?)
    }

    /// PUT of an object.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: Path,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        Ok(self.http.put_json(path.as_str(), body).await?)
    }

    /// DELETE, whatever it answers.
    pub(crate) async fn delete(&self, path: Path) -> Result<(), Failure> {
        Ok(self.http.delete(path.as_str()).await?)
    }

    /// DELETE that answers with what was deleted.
    pub(crate) async fn delete_for<T: DeserializeOwned>(&self, path: Path) -> Result<T, Failure> {
        Ok(self.http.call(Request::new(Method::DELETE, path.as_str())).await?)
    }

    /// POST of an object that turns the connection into one of raw bytes both ways.
    pub(crate) async fn upgrade(
        &self,
        path: Path,
        body: &impl Serialize,
        protocol: &str,
    ) -> Result<Upgraded, Failure> {
        let request = Request::new(Method::POST, path.as_str()).json(body)?;
        Ok(self.http.upgrade(request.timeout(START_TIMEOUT), protocol).await?)
    }

    /// GET of something that is no JSON, or too long to be held.
    pub(crate) async fn raw(&self, path: Path) -> Result<Response, Failure> {
        Ok(self.http.send(Request::get(path.as_str())).await?)
    }
}

/// Whether the object asked for is not there, in either of the forms a controller has for it.
fn is_missing(error: &ClientError) -> bool {
    let code = error.api_code();
    error.is_not_found()
        || code == Some(kit_http::ErrorCode::NotFound)
        || code == Some(kit_http::ErrorCode::ObjectNotFound)
}

/// A pin decides alone; without one the system's roots do.
fn trust(cluster: &Cluster) -> Result<std::sync::Arc<rustls::ClientConfig>, Failure> {
    if !cluster.tls_pin.is_empty() {
        let pin: kit_tls::Pin = cluster
            .tls_pin
            .parse()
            .map_err(|error| Failure::said(format!("error decoding tls pin: {error}")))?;
        return Ok(kit_tls::client_config_pinned(pin));
    }
    let bundle = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let roots = kit_tls::system_roots(bundle.as_deref())
        .map_err(|error| Failure::said(error.to_string()))?;
    Ok(kit_tls::client_config(roots))
}
