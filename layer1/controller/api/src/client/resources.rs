//! Calls about providers and resources.

use std::time::Duration;

use kit_http::{ClientError, Request};
use kit_ids::{AppId, ResourceId};

use super::{Client, path};
use crate::{Provider, Resource, ResourceReq};

/// A provider may have to start a database cluster first.
const PROVISION_TIMEOUT: Duration = Duration::from_secs(330);

impl Client {
    /// All providers.
    pub async fn providers(&self) -> Result<Vec<Provider>, ClientError> {
        self.http.get_json("/providers").await
    }

    /// One provider.
    pub async fn provider(&self, provider: &str) -> Result<Provider, ClientError> {
        self.http.get_json(&path(&["providers", provider])).await
    }

    /// Makes a provider known.
    pub async fn create_provider(&self, provider: &Provider) -> Result<Provider, ClientError> {
        self.http.post_json("/providers", provider).await
    }

    /// All resources.
    pub async fn resources(&self) -> Result<Vec<Resource>, ClientError> {
        self.http.get_json("/resources").await
    }

    /// A provider's resources.
    pub async fn provider_resources(&self, provider: &str) -> Result<Vec<Resource>, ClientError> {
        self.http.get_json(&path(&["providers", provider, "resources"])).await
    }

    /// One resource.
    pub async fn resource(&self, provider: &str, id: &ResourceId) -> Result<Resource, ClientError> {
        self.http.get_json(&resource_path(provider, id)).await
    }

    /// Has a provider make a resource.
    pub async fn provision_resource(
        &self,
        provider: &str,
        request: &ResourceReq,
    ) -> Result<Resource, ClientError> {
        let url = path(&["providers", provider, "resources"]);
        let call = Request::new(http::Method::POST, &url).json(request)?;
        self.http.call(call.timeout(PROVISION_TIMEOUT)).await
    }

    /// Records a resource that was made elsewhere.
    pub async fn put_resource(
        &self,
        provider: &str,
        resource: &Resource,
    ) -> Result<Resource, ClientError> {
        let id = resource.id.as_ref().map_or("", |id| id.as_str());
        self.http.put_json(&path(&["providers", provider, "resources", id]), resource).await
    }

    /// Has the provider destroy a resource.
    pub async fn delete_resource(
        &self,
        provider: &str,
        id: &ResourceId,
    ) -> Result<Resource, ClientError> {
        self.delete_json(&resource_path(provider, id)).await
    }

    /// Lets an app use a resource.
    pub async fn add_resource_app(
        &self,
        provider: &str,
        id: &ResourceId,
        app: &AppId,
    ) -> Result<Resource, ClientError> {
        let url = format!("{}/apps/{app}", resource_path(provider, id));
        self.http.call(Request::new(http::Method::PUT, &url)).await
    }

    /// Ends an app's use of a resource.
    pub async fn remove_resource_app(
        &self,
        provider: &str,
        id: &ResourceId,
        app: &AppId,
    ) -> Result<Resource, ClientError> {
        self.delete_json(&format!("{}/apps/{app}", resource_path(provider, id))).await
    }
}

fn resource_path(provider: &str, id: &ResourceId) -> String {
    path(&["providers", provider, "resources", id.as_str()])
}
