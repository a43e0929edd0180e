//! Deployments without running processes (the others are worker.rs); providers and their resources; volumes.

use axum::Router;
use axum::routing::post;
use kit_tasks::Tasks;

use crate::examples::{demo, release};
use crate::support::{DEADLINE, Redaction, Server};

#[tokio::test]
async fn a_first_deployment_is_complete_at_once() {
    let server = Server::start().await;
    let (app, first) = demo(&server).await;
    let mut ids = Redaction::default();
    ids.redact(&format!("{app}{first}"));
    let body = format!(r#"{{"id":"{first}"}}"#);
    let deployed = server.post("/apps/demo/deploy", &body).await;
    let want = r#"200 {"id":"<C>","app":"<A>","new_release":"<B>","strategy":"all-at-once","status":"complete","deploy_timeout":120,"created_at":"<t>","finished_at":"<t>"}"#;
    assert_eq!(ids.redact(&deployed.line()), want);
    let id = deployed.field("id");
    assert_eq!(server.get(&format!("/deployments/{id}")).await.body, deployed.body);
    assert_eq!(server.get("/apps/demo/release").await.field("id"), first);
    assert_eq!(server.get("/apps/demo/deployments").await.body, format!("[{}]", deployed.body));

    // With nothing running, the next one is too.
    let second = release(&server, &app, &["web"]).await;
    let again = server.post("/apps/demo/deploy", &format!(r#"{{"id":"{second}"}}"#)).await;
    assert_eq!((again.field("status"), again.field("old_release")), ("complete".into(), first));
    server.stop().await;
}

/// A provider that answers what the test says.
async fn provider(tasks: &Tasks) -> String {
    let router = Router::new().route(
        "/res",
        post(async |body: String| {
            format!(r#"{{"id":"/databases/{}","env":{{"DATABASE_URL":"pg://x"}}}}"#, body.len())
        })
        .delete(async || "{}"),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = kit_http::serve(tasks, listener, kit_http::finish(router)).unwrap();
    format!("http://{}", running.addr())
}

#[tokio::test]
async fn resources_are_made_shared_and_destroyed() {
    let server = Server::start().await;
    let tasks = Tasks::root("provider");
    let base = provider(&tasks).await;
    let (app, _) = demo(&server).await;
    let other = server.post("/apps", r#"{"name":"other"}"#).await.field("id");
    let mut ids = Redaction::default();
    ids.redact(&format!("{app}{other}"));
    let made =
        server.post("/providers", &format!(r#"{{"id":"x","name":"pg","url":"{base}/res"}}"#)).await;
    let want = format!(
        r#"200 {{"id":"<C>","url":"{base}/res","name":"pg","created_at":"<t>","updated_at":"<t>"}}"#
    );
    assert_eq!(ids.redact(&made.line()), want);
    let broken = format!(r#"{{"name":"broken","url":"{base}/broken"}}"#);
    assert_eq!(server.post("/providers", &broken).await.status, 200);
    assert_eq!(server.post("/providers", &broken).await.status, 409);
    let failed = server.post("/providers/broken/resources", "{}").await;
    assert_eq!((failed.status, failed.field("code")), (500, "unknown_error".to_owned()));

    let unknown = server.post("/providers/pg/resources", r#"{"apps":["nope"]}"#).await;
    assert_eq!(unknown.status, 400);
    let body = r#"{"apps":["demo"],"config":{"a":1}}"#;
    let resource = server.post("/providers/pg/resources", body).await;
    let want = r#"200 {"id":"<D>","provider":"<C>","external_id":"/databases/7","env":{"DATABASE_URL":"pg://x"},"apps":["<A>"],"created_at":"<t>"}"#;
    assert_eq!(ids.redact(&resource.line()), want);
    let path = format!("/providers/pg/resources/{}", resource.field("id"));
    assert_eq!(server.get(&path).await.body, resource.body);
    let shared = server.put(&format!("{path}/apps/{other}"), "").await;
    assert_eq!(shared.json()["apps"], serde_json::json!([app, other]), "{shared:?}");
    assert_eq!(server.get("/apps/other/resources").await.json().as_array().unwrap().len(), 1);
    assert_eq!(server.put(&format!("{path}/apps/{other}"), "").await.status, 409);
    assert_eq!(server.delete(&format!("{path}/apps/{other}")).await.body, resource.body);
    let alone = server.delete(&format!("{path}/apps/{app}")).await;
    assert!(!alone.body.contains("apps"), "{}", alone.body);
    assert_eq!(server.delete(&path).await.status, 200);
    assert_eq!(server.get(&path).await.status, 404);
    assert_eq!(server.get("/resources").await.body, "[]");
    tasks.shutdown(DEADLINE).await;
    server.stop().await;
}

#[tokio::test]
async fn volumes_are_recorded_and_decommissioned() {
    let server = Server::start().await;
    let (app, release) = demo(&server).await;
    let mut ids = Redaction::default();
    ids.redact(&format!("{app}{release}"));
    let id = "0f0e0d0c-1111-4222-8333-abcdefabcdef";
    let body = format!(
        r#"{{"id":"{id}","host_id":"host0","type":"data","state":"pending","app":"{app}","release":"{release}","job_type":"web","path":"/data","delete_on_stop":true,"meta":{{"k":"v"}}}}"#
    );
    let put = server.put("/volumes/x", &body).await;
    let want = r#"200 {"path":"/data","delete_on_stop":true,"id":"<C>","host_id":"host0","type":"data","state":"pending","app":"<A>","release":"<B>","job_type":"web","meta":{"k":"v"},"created_at":"<t>","updated_at":"<t>"}"#;
    assert_eq!(ids.redact(&put.line()), want);
    let path = format!("/apps/demo/volumes/{id}");
    assert_eq!(server.get(&path).await.body, put.body);
    let gone = server.put(&format!("{path}/decommission"), &format!(r#"{{"id":"{id}"}}"#)).await;
    let want = r#"200 {"id":"<C>","host_id":"","type":"","state":"","updated_at":"<t>","decommissioned_at":"<t>"}"#;
    assert_eq!(ids.redact(&gone.line()), want);
    assert!(server.get(&path).await.body.contains("decommissioned_at"));
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_app_leaves_its_name_free_and_nothing_behind() {
    let server =
        Server::start_with(|config| config.default_route_domain = Some("d.test".to_owned())).await;
    let (app, first) = demo(&server).await;
    server.put("/apps/demo/release", &format!(r#"{{"id":"{first}"}}"#)).await;
    server.put(&format!("/apps/demo/formations/{first}"), r#"{"processes":{"web":1}}"#).await;
    let api = server.api();
    let filter = controller_api::EventFilter::of_app("demo");
    let mut events = api.stream_events(&filter, controller_api::EventsFrom::Now).await.unwrap();
    api.delete_app("demo").await.unwrap();
    let mut kinds = Vec::new();
    let deletion = loop {
        let event = tokio::time::timeout(DEADLINE, events.next_event()).await.unwrap();
        let event = event.unwrap().unwrap();
        kinds.push(event.object_type.unwrap().as_str());
        if event.object_type == Some(controller_api::EventType::AppDeletion) {
            break event.data_as::<controller_api::AppDeletionEvent>().unwrap();
        }
    };
    assert!(
        kinds.ends_with(&[
            "scale_request",
            "scale_request_cancelation",
            "scale",
            "route_deletion",
            "release_deletion",
            "app_deletion"
        ]),
        "{kinds:?}"
    );
    assert_eq!(deletion.error, "");
    let deletion = deletion.app_deletion.unwrap();
    assert_eq!(deletion.deleted_routes.unwrap()[0].domain, "demo.d.test");
    assert_eq!(deletion.deleted_releases.unwrap().len(), 1);
    assert_eq!(deletion.deleted_resources, None);
    for path in ["/apps/demo".to_owned(), format!("/apps/{app}"), format!("/releases/{first}")] {
        assert_eq!(server.get(&path).await.status, 404, "{path}");
    }
    assert_eq!(server.delete("/apps/demo").await.status, 404);
    assert_eq!(server.get("/routes").await.body, "[]");
    assert_eq!(server.post("/apps", r#"{"name":"demo"}"#).await.status, 200);
    server.stop().await;
}
