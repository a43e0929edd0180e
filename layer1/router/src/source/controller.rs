//! Routes from the controller: its event stream is opened first, then the list is read, so that
//! nothing in between is lost. A route that cannot be read is left out and named in the log.

use std::time::Duration;

use controller_api::{Client, Event, EventFilter, EventType, EventsFrom};
use kit_http::Request;
use router_api::Route;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Following, RouteSource, RouteUpdate, SourceError};

/// How long the whole list may take.
const LIST: Duration = Duration::from_secs(60);

/// The controller as a source of routes.
#[derive(Clone, Debug)]
pub struct ControllerRoutes {
    client: Client,
}

impl ControllerRoutes {
    /// Follows this controller.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn stream(&self, updates: &mpsc::Sender<RouteUpdate>) -> Result<(), SourceError> {
        let filter = EventFilter::default().types(&[EventType::Route, EventType::RouteDeletion]);
        let stream = self.client.stream_events(&filter, EventsFrom::Now).await;
        let mut stream = stream.map_err(|error| SourceError::new("route stream", error))?;
        let listed = self.list().await?;
        let all = RouteUpdate::All(listed.into_iter().filter_map(read).collect());
        if updates.send(all).await.is_err() {
            return Ok(());
        }
        while let Some(event) = stream.next_event().await {
            let event = event.map_err(|error| SourceError::new("route stream", error))?;
            if let Some(update) = update(event)
                && updates.send(update).await.is_err()
            {
                return Ok(());
            }
        }
        Err(SourceError::ended("the controller ended the route stream"))
    }
}

impl ControllerRoutes {
    /// Read value by value, so that one odd route does not cost the list.
    async fn list(&self) -> Result<Vec<Value>, SourceError> {
        let listed = async {
            self.client.http().send(Request::get("/routes")).await?.json::<Vec<Value>>().await
        };
        let what = "list of routes";
        match tokio::time::timeout(LIST, listed).await {
            Ok(listed) => listed.map_err(|error| SourceError::new(what, error)),
            Err(late) => Err(SourceError::new(what, late)),
        }
    }
}

impl RouteSource for ControllerRoutes {
    fn follow(&self, updates: mpsc::Sender<RouteUpdate>) -> Following<'_> {
        Box::pin(async move { self.stream(&updates).await })
    }
}

fn read(value: Value) -> Option<Route> {
    let id = value.get("id").cloned();
    serde_json::from_value(value)
        .inspect_err(|error| tracing::warn!(?id, %error, "route cannot be read and is left out"))
        .ok()
}

fn update(event: Event) -> Option<RouteUpdate> {
    let set = event.object_type == Some(EventType::Route);
    let deleted = event.object_type == Some(EventType::RouteDeletion);
    if set {
        return read(event.data).map(|route| RouteUpdate::Set(Box::new(route)));
    }
    let id = deleted.then(|| event.object_id.parse().ok()).flatten()?;
    Some(RouteUpdate::Remove(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_events_become_updates() {
        let id = "0f0e0d0c-1111-4222-8333-abcdefabcdef";
        let event = |kind: &str| -> Event {
            serde_json::from_str(&format!(
                r#"{{"id":106,"object_type":"{kind}","object_id":"{id}","data":{{"id":"{id}","path":"/","type":"http","domain":"www.example.com","leader":false,"sticky":true,"service":"demo-web","created_at":"2026-11-21T04:45:00Z","parent_ref":"controller/apps/{id}","updated_at":"2026-11-21T04:45:00Z","drain_backends":true}},"created_at":"2026-11-21T04:45:00Z"}}"#
            ))
            .unwrap()
        };
        let Some(RouteUpdate::Set(route)) = update(event("route")) else { panic!("no set") };
        assert_eq!((route.domain.as_str(), route.sticky), ("www.example.com", true));
        assert_eq!(update(event("route_deletion")), Some(RouteUpdate::Remove(id.parse().unwrap())));
        assert_eq!(update(event("app")), None);
        let bad = Event { data: Value::Null, ..event("route") };
        assert_eq!(update(bad), None);
    }
}
