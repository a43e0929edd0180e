//! One-off jobs and kills, against a stand-in of discoverd and of hosts that keep what they are sent; turns
//! of schedulers.

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

/// A host with so much memory free that refuses what it is given when `why` is not empty.
async fn host(tasks: &Tasks, name: &str, free: u64, why: &'static str, asked: Asked) -> Value {
    let status = serde_json::json!({
        "id": name, "pid": 1, "url": "http://h", "version": "dev",
        "resources": {"memory": {"total": 8_u64 << 30, "reserved": (8_u64 << 30) - free},
            "cpu": {"total": 8000, "reserved": 0}, "generation": 1},
    });
    let own = name.to_owned();
    let add = async move |Json(_): Json<Value>| {
        asked.lock().unwrap().push((own.clone(), Value::Null));
        match why {
            "" => Ok("{}"),
            why => Err(kit_http::ApiError::conflict(why)),
        }
    };
    let routes = Router::new()
        .route("/host/status", get(async move || Json(status)))
        .route("/host/jobs/{id}", put(add));
    let addr = serve(tasks, routes).await;
    let id = discoverd_api::instance_id("http", &addr);
    serde_json::json!({"id": id, "addr": addr, "proto": "http", "meta": {"id": name}, "index": 1})
}

#[tokio::test]
async fn a_one_off_job_goes_where_there_is_room_and_on_when_it_is_refused() {
    let tasks = Tasks::root("cluster");
    let asked = Asked::default();
    let full = "the disk is full";
    let instances = serde_json::json!([
        host(&tasks, "small", 64 << 20, "", asked.clone()).await,
        host(&tasks, "large", 4 << 30, full, asked.clone()).await,
        host(&tasks, "middle", 1 << 30, "", asked.clone()).await,
    ]);
    let discoverd =
        Router::new().route("/services/flynn-host/instances", get(async move || Json(instances)));
    let servers = discoverd_api::Servers::parse(&serve(&tasks, discoverd).await);
    let discoverd = discoverd_api::Client::new(&servers).unwrap();
    let server = Server::start_with(|config| config.discoverd = Some(discoverd)).await;
    let (_, release) = demo(&server).await;
    let run = |memory: u64| {
        let body = format!(
            r#"{{"release":"{release}","resources":{{"memory":{{"request":{memory},"limit":{memory}}}}}}}"#
        );
        let server = &server;
        async move { server.post("/apps/demo/jobs", &body).await }
    };
    let names =
        || -> Vec<String> { asked.lock().unwrap().drain(..).map(|(name, _)| name).collect() };
    assert_eq!(run(200 << 20).await.field("host_id"), "middle");
    assert_eq!(names(), ["large", "middle"]);
    let refused = run(2 << 30).await;
    assert_eq!(
        (refused.status, refused.field("message")),
        (409, format!("schedule failed: {full}"))
    );
    assert_eq!(names(), ["large"]);
    let refused = run(16 << 30).await;
    assert_eq!(refused.status, 503);
    assert!(refused.field("message").contains("large has the most left"), "{refused:?}");
    tasks.shutdown(DEADLINE).await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_recorded_in_a_turn_that_is_over_is_refused() {
    let server = Server::start().await;
    let (app, release) = demo(&server).await;
    let api = server.api();
    let job = controller_api::Job {
        uuid: Some("0d000000-0000-4000-8000-000000000001".parse().unwrap()),
        app: Some(app.parse().unwrap()),
        release: Some(release.parse().unwrap()),
        state: Some(controller_api::JobState::Pending),
        ..controller_api::Job::default()
    };
    let first = api.next_scheduler_turn().await.unwrap();
    api.put_job_in_turn(&job, Some(first)).await.unwrap();
    let second = api.next_scheduler_turn().await.unwrap();
    assert!(second.turn > first.turn);
    let up = controller_api::Job { state: Some(controller_api::JobState::Up), ..job.clone() };
    let refused = api.put_job_in_turn(&up, Some(first)).await.unwrap_err();
    assert_eq!(refused.api_code(), Some(kit_http::ErrorCode::PreconditionFailed));
    let recorded = api.jobs("demo").await.unwrap();
    assert_eq!(recorded[0].state, Some(controller_api::JobState::Pending), "nothing was recorded");
    api.put_job_in_turn(&up, Some(second)).await.unwrap();
    // Whoever takes no turns, as clients of old, is not asked for one.
    api.put_job(&job).await.unwrap();
    server.stop().await;
}
