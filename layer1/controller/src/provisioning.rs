//! Calls to a provider's own API: make a resource, destroy one (spec/appliances.md §9, §13).

use std::collections::BTreeMap;
use std::time::Duration;

use controller_api::Provider;
use http::{Method, StatusCode};
use kit_http::{ApiError, Client, ClientError, Request};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Answer;

/// A provider may have to start a database cluster first.
const TIMEOUT: Duration = Duration::from_secs(320);

/// What a provider made.
#[derive(Debug, Deserialize)]
pub(crate) struct Provisioned {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
}

/// Why a provider did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum ProviderError {
    #[error("provider {name}: resource: unexpected status code {status}")]
    Status { name: String, status: StatusCode },
    #[error("provider {name}: no usable answer")]
    Answer { name: String },
    #[error("provider {name} cannot be reached")]
    Unreachable {
        name: String,
        #[source]
        source: ClientError,
    },
}

/// Has the provider make a resource.
pub(crate) async fn provision(
    http: &Client,
    provider: &Provider,
    config: Option<Value>,
) -> Answer<Provisioned> {
    let config = config.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let request = Request::new(Method::POST, &provider.url).json(&config);
    let body = call(http, provider, request).await?;
    let made = serde_json::from_slice::<Provisioned>(&body).ok().filter(|made| !made.id.is_empty());
    made.ok_or_else(|| failed(&ProviderError::Answer { name: provider.name.clone() }).into())
}

/// Has the provider destroy what it made.
pub(crate) async fn deprovision(
    http: &Client,
    provider: &Provider,
    external_id: &str,
) -> Answer<()> {
    let separator = if provider.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}id={}", provider.url, escape(external_id));
    call(http, provider, Ok(Request::new(Method::DELETE, &url))).await.map(drop)
}

async fn call(
    http: &Client,
    provider: &Provider,
    request: Result<Request, ClientError>,
) -> Answer<bytes::Bytes> {
    let name = || provider.name.clone();
    let unreachable = |source| failed(&ProviderError::Unreachable { name: name(), source });
    let whole = async {
        let response = http.send_raw(request.map_err(unreachable)?.timeout(TIMEOUT)).await;
        let response = response.map_err(unreachable)?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(failed(&ProviderError::Status { name: name(), status }));
        }
        response.bytes().await.map_err(unreachable)
    };
    match tokio::time::timeout(TIMEOUT, whole).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(failed(&ProviderError::Answer { name: name() }).into()),
    }
}

/// The provider's failure is not the caller's mistake, and not one of the controller either: the caller
/// is told, and may come back.
fn failed(error: &ProviderError) -> ApiError {
    tracing::warn!(%error, cause = ?std::error::Error::source(error), "provider failed");
    ApiError::new(kit_http::ErrorCode::Unknown, error.to_string())
}

/// A text as part of a query.
pub(crate) fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}
