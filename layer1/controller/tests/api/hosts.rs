//! One-off jobs and kills, against a stand-in of discoverd and of a host that keeps what it is sent.

use std::sync::{Arc, Mutex};

use axum::routing::{delete, get, put};
use axum::{Json, Router};
use kit_tasks::Tasks;
use serde_json::Value;

use crate::examples::demo;
use crate::support::{DEADLINE, Server};

/// What the host was asked: method and body.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

async fn serve(tasks: &Tasks, router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    kit_http::serve(tasks, listener, kit_http::finish(router)).unwrap().addr().to_string()
}

/// The address of a discoverd that knows one host, which notes what it is asked.
async fn cluster(tasks: &Tasks, asked: Asked) -> String {
    let (added, stopped) = (asked.clone(), asked);
    let host = Router::new().route(
        "/host/jobs/{id}",
        put(async move |Json(job): Json<Value>| {
            added.lock().unwrap().push(("PUT".to_owned(), job));
            "{}"
        })
        .merge(delete(async move || {
            stopped.lock().unwrap().push(("DELETE".to_owned(), Value::Null));
        })),
    );
    let host = serve(tasks, host).await;
    let instance = serde_json::json!([{
        "id": discoverd_api::instance_id("http", &host), "addr": host, "proto": "http",
        "meta": {"id": "host0"}, "index": 1,
    }]);
    let discoverd =
        Router::new().route("/services/flynn-host/instances", get(async move || Json(instance)));
    serve(tasks, discoverd).await
}

#[tokio::test]
async fn one_off_jobs_run_on_a_host_and_can_be_killed() {
    let tasks = Tasks::root("cluster");
    let asked = Asked::default();
    let servers = discoverd_api::Servers::parse(&cluster(&tasks, asked.clone()).await);
    let discoverd = discoverd_api::Client::new(&servers).unwrap();
    let server = Server::start_with(|config| config.discoverd = Some(discoverd)).await;
    let (app, release) = demo(&server).await;
    let body = format!(
        r#"{{"release":"{release}","release_env":true,"args":["echo","hi"],"env":{{"K":"job"}},"meta":{{"m":"1"}}}}"#
    );
    let run = server.post("/apps/demo/jobs", &body).await;
    let uuid = run.field("uuid");
    let want = format!(
        r#"200 {{"id":"host0-{uuid}","uuid":"{uuid}","host_id":"host0","release":"{release}","args":["echo","hi"]}}"#
    );
    assert_eq!(run.line(), want);
    let job = asked.lock().unwrap().pop().unwrap().1;
    let env = serde_json::json!({
        "A": "1", "FLYNN_APP_ID": app, "FLYNN_JOB_ID": format!("host0-{uuid}"),
        "FLYNN_PROCESS_TYPE": "", "FLYNN_RELEASE_ID": release, "K": "job",
    });
    assert_eq!(job["config"], serde_json::json!({"args": ["echo", "hi"], "env": env}));
    let metadata = serde_json::json!({
        "flynn-controller.app": app, "flynn-controller.app_name": "demo",
        "flynn-controller.release": release, "m": "1",
    });
    assert_eq!(job["metadata"], metadata);
    assert_eq!(job["mountspecs"][0]["url"], "http://blobstore.discoverd/layers/aa11.squashfs");

    let record = |host: &str| {
        format!(
            r#"{{{host}"uuid":"{uuid}","app":"{app}","release":"{release}","state":"pending"}}"#
        )
    };
    let path = format!("/apps/demo/jobs/{uuid}");
    server.put(&path, &record("")).await;
    let refused = server.delete(&path).await;
    assert_eq!(refused.field("message"), "cannot kill a job which has not been placed on a host");
    server.put(&path, &record(&format!(r#""id":"host0-{uuid}","host_id":"host0","#))).await;
    assert_eq!(server.delete(&path).await.line(), "200 ");
    assert_eq!(asked.lock().unwrap().pop().unwrap().0, "DELETE");
    server.put(&path, &record(&format!(r#""id":"gone-{uuid}","host_id":"gone","#))).await;
    assert_eq!(server.delete(&path).await.status, 409);
    tasks.shutdown(DEADLINE).await;
    server.stop().await;
}
