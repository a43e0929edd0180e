//! Calls about routes.

use kit_http::ClientError;
use kit_ids::RouteId;

use super::{Client, path};
use crate::{Route, RouteKind};

impl Client {
    /// All routes, with certificates and their keys.
    pub async fn routes(&self) -> Result<Vec<Route>, ClientError> {
        self.http.get_json("/routes").await
    }

    /// An app's routes, the newest first.
    pub async fn app_routes(&self, app: &str) -> Result<Vec<Route>, ClientError> {
        self.http.get_json(&path(&["apps", app, "routes"])).await
    }

    /// Adds a route to an app.
    pub async fn create_route(&self, app: &str, route: &Route) -> Result<Route, ClientError> {
        self.http.post_json(&path(&["apps", app, "routes"]), route).await
    }

    /// One route of an app.
    pub async fn route(
        &self,
        app: &str,
        kind: RouteKind,
        id: &RouteId,
    ) -> Result<Route, ClientError> {
        self.http.get_json(&route_path(app, kind, id)).await
    }

    /// Replaces a route; it must have an id.
    pub async fn update_route(&self, app: &str, route: &Route) -> Result<Route, ClientError> {
        let id = route.id.as_ref().map_or("", |id| id.as_str());
        let url = path(&["apps", app, "routes", route.kind.as_str(), id]);
        self.http.put_json(&url, route).await
    }

    /// Deletes a route.
    pub async fn delete_route(
        &self,
        app: &str,
        kind: RouteKind,
        id: &RouteId,
    ) -> Result<(), ClientError> {
        self.http.delete(&route_path(app, kind, id)).await
    }
}

fn route_path(app: &str, kind: RouteKind, id: &RouteId) -> String {
    path(&["apps", app, "routes", kind.as_str(), id.as_str()])
}
