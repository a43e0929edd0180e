//! The worked examples of spec/controller.md §25 and what tests of the original checked (§24).

use http::Method;
use kit_http::Request;

use crate::support::{Redaction, Server, client, send, with_header};

const RES: &str = r#"{"cpu":{"request":1000,"limit":1000},"max_fd":{"request":10000,"limit":10000},"memory":{"request":1073741824,"limit":1073741824},"temp_disk":{"request":104857600,"limit":104857600}}"#;

const MANIFEST: &str = r#"{"_type":"application/vnd.flynn.image.manifest.v1+json","entrypoints":{"_default":{"args":["/bin/run"],"env":{"A":"1"}}},"rootfs":[{"platform":{"architecture":"amd64","os":"linux"},"layers":[{"id":"aa11","type":"application/vnd.flynn.image.squashfs.v1","length":4096,"hashes":{"sha512_256":"aa11"}}]}]}"#;

/// An app `demo`, an artifact and a release with the types web and worker; the ids of app and release.
pub(crate) async fn demo(server: &Server) -> (String, String) {
    let app = server.post("/apps", r#"{"name":"demo"}"#).await.field("id");
    let release = release(server, &app, &["web", "worker"]).await;
    (app, release)
}

pub(crate) async fn release(server: &Server, app: &str, types: &[&str]) -> String {
    let body = format!(
        r#"{{"type":"flynn","uri":"http://h/man.json","manifest":{MANIFEST},"layer_url_template":"http://blobstore.discoverd/layers/{{id}}.squashfs"}}"#
    );
    let artifact = server.post("/artifacts", &body).await.field("id");
    let types: Vec<_> =
        types.iter().map(|name| format!(r#""{name}":{{"args":["{name}"]}}"#)).collect();
    let body = format!(
        r#"{{"app_id":"{app}","artifacts":["{artifact}"],"env":{{"K":"release"}},"processes":{{{}}}}}"#,
        types.join(",")
    );
    server.post("/releases", &body).await.field("id")
}

#[tokio::test]
async fn only_those_with_a_key_come_in() {
    let server = Server::start().await;
    let http = |key| client(&server.running, key);
    for (key, path, status) in [
        ("key", "/apps", 200),
        ("other", "/apps", 200),
        ("wrong", "/apps", 401),
        ("", "/apps", 401),
        ("", "/apps?key=key", 401),
        ("", "/nope", 401),
        ("", "/.well-known/status", 401),
        ("", "/ca-cert", 200),
        ("wrong", "/ca-cert", 401),
        ("key", "/ca-cert", 200),
        ("", "/ping", 200),
    ] {
        let answer = send(&http(key), Request::get(path)).await;
        assert_eq!(answer.status, status, "{path} with {key:?}");
        if status == 401 {
            assert_eq!((answer.body.as_str(), answer.content_type.as_str()), ("", ""), "{path}");
        }
    }
    let none = kit_http::Client::new(&format!("http://{}", server.running.addr())).unwrap();
    let bearer = with_header(Request::get("/apps"), "authorization", "Bearer key");
    assert_eq!(send(&none, bearer).await.status, 401);
    assert_eq!(send(&none, Request::get("/ca-cert")).await.status, 200);
    let preflight =
        with_header(Request::new(Method::OPTIONS, "/apps"), "origin", "http://x.example");
    let answer = none.send_raw(preflight).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-origin"], "http://x.example");
    assert_eq!(answer.headers()["access-control-max-age"], "3600");
    server.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_slashes_are_answered_as_ever() {
    let server = Server::start().await;
    for (method, path) in
        [(Method::GET, "/nope"), (Method::PATCH, "/apps"), (Method::POST, "/events")]
    {
        let answer = server.send(method, path, "").await;
        assert_eq!(answer.line(), "404 404 page not found\n", "{path}");
        assert_eq!(answer.content_type, "text/plain; charset=utf-8");
    }
    // The client follows the redirect.
    assert_eq!(server.get("/apps/").await.line(), "200 []");
    assert_eq!(server.get("/apps/nosuch").await.line(), "404 ");
    let status = server.get("/.well-known/status").await;
    assert_eq!(
        status.body,
        "{\n  \"data\": {\n    \"status\": \"healthy\",\n    \"version\": \"dev\"\n  }\n}\n"
    );
    server.stop().await;
}

#[tokio::test]
async fn apps_are_made_and_changed_in_part() {
    let server = Server::start().await;
    let mut ids = Redaction::default();
    let created = server.post("/apps", r#"{"name":"demo"}"#).await;
    let want = r#"200 {"id":"<A>","name":"demo","meta":{"gc.max_inactive_slug_releases":"10"},"strategy":"all-at-once","deploy_timeout":120,"created_at":"<t>","updated_at":"<t>"}"#;
    assert_eq!(ids.redact(&created.line()), want);
    let id = created.field("id");
    for path in
        ["/apps/demo".to_owned(), format!("/apps/{id}"), format!("/apps/{}", id.replace('-', ""))]
    {
        assert_eq!(server.get(&path).await.body, created.body, "{path}");
    }
    let changed = server.post("/apps/demo", r#"{"strategy":"one-by-one","meta":null}"#).await;
    assert_eq!(changed.body, created.body.replace("all-at-once", "one-by-one"));
    assert_ne!(server.get("/apps/demo").await.field("updated_at"), created.field("updated_at"));
    let cleared = server.post("/apps/demo/meta", r#"{"meta":{}}"#).await;
    assert!(cleared.body.contains(r#""meta":{},"strategy":"one-by-one""#), "{}", cleared.body);
    let timeout = server.post("/apps/demo", r#"{"deploy_timeout":0,"name":"other"}"#).await;
    assert!(!timeout.body.contains("deploy_timeout"), "{}", timeout.body);
    assert_eq!(timeout.field("name"), "demo");
    let generated = server.post("/apps", "{}").await;
    assert_eq!(generated.status, 200);
    assert!(generated.field("name").split('-').count() >= 3, "{}", generated.body);
    // No shadow store: what psql changes, everybody sees.
    server.sql("UPDATE apps SET name = 'renamed' WHERE name = 'demo'").await;
    assert_eq!(server.get("/apps/renamed").await.field("id"), id);
    assert_eq!(server.get("/apps/demo").await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn artifacts_and_releases_are_stored_as_given() {
    let server = Server::start().await;
    let mut ids = Redaction::default();
    let app = server.post("/apps", r#"{"name":"demo"}"#).await.field("id");
    ids.redact(&app);
    let artifact = format!(
        r#"{{"type":"flynn","uri":"http://h/man.json","meta":{{"blobstore":"true"}},"manifest":{MANIFEST},"size":302}}"#
    );
    let made = server.post("/artifacts", &artifact).await;
    let want = format!(
        r#"200 {{"id":"<B>","type":"flynn","uri":"http://h/man.json","meta":{{"blobstore":"true"}},"manifest":{MANIFEST},"size":302,"created_at":"<t>"}}"#
    );
    assert_eq!(ids.redact(&made.line()), want);
    let id = made.field("id");
    let read = server.get(&format!("/artifacts/{id}")).await;
    let manifest = r#"{"_type":"application/vnd.flynn.image.manifest.v1+json","rootfs":[{"layers":[{"id":"aa11","type":"application/vnd.flynn.image.squashfs.v1","hashes":{"sha512_256":"aa11"},"length":4096}],"platform":{"os":"linux","architecture":"amd64"}}],"entrypoints":{"_default":{"env":{"A":"1"},"args":["/bin/run"]}}}"#;
    assert_eq!(read.body, made.body.replace(MANIFEST, manifest));
    assert_eq!(server.post("/artifacts", &artifact).await.field("id"), id, "the same is made once");

    let body = format!(
        r#"{{"app_id":"{app}","artifacts":["{id}"],"env":{{"K":"v <&>"}},"meta":{{"git":"true"}},"processes":{{"web":{{"args":["/bin/web"],"ports":[{{"port":0,"proto":"tcp"}}],"service":"demo-web"}},"worker":{{"args":["w"],"resources":{{"memory":{{"limit":5}}}}}}}}}}"#
    );
    let made = server.post("/releases", &body).await;
    let small = RES.replace("1073741824", "5");
    let want = format!(
        r#"200 {{"id":"<C>","app_id":"<A>","artifacts":["<B>"],"env":{{"K":"v \u003c\u0026\u003e"}},"meta":{{"git":"true"}},"processes":{{"web":{{"args":["/bin/web"],"ports":[{{"port":0,"proto":"tcp"}}],"service":"demo-web","resources":{RES}}},"worker":{{"args":["w"],"resources":{small}}}}},"created_at":"<t>"}}"#
    );
    assert_eq!(ids.redact(&made.line()), want);
    let read = server.get(&format!("/releases/{}", made.field("id"))).await;
    let with_artifact = format!(r#"{},"artifact":"{id}"}}"#, made.body.trim_end_matches('}'));
    assert_eq!(read.body, with_artifact);
    assert_eq!(server.get("/apps/demo/releases").await.body, format!("[{}]", read.body));

    let old = format!(
        r#"{{"app_id":"{app}","processes":{{"p":{{"entrypoint":["e"],"cmd":["c"],"data":true}}}}}}"#
    );
    let want = format!(
        r#"{{"p":{{"args":["e","c"],"volumes":[{{"path":"/data"}}],"resources":{RES},"cmd":["c"],"entrypoint":["e"]}}}}"#
    );
    assert_eq!(server.post("/releases", &old).await.json()["processes"].to_string(), want);
    server.stop().await;
}

#[tokio::test]
async fn an_app_runs_the_release_it_is_told_to() {
    let server = Server::start().await;
    let (_, release) = demo(&server).await;
    assert_eq!(server.get("/apps/demo/release").await.line(), "404 ");
    let set = server.put("/apps/demo/release", &format!(r#"{{"id":"{release}"}}"#)).await;
    assert_eq!((set.status, set.field("id")), (200, release.clone()));
    assert_eq!(server.get("/apps/demo").await.field("release"), release);
    assert_eq!(server.get("/apps/demo/formations").await.body, "[]");
    assert_eq!(server.get("/apps/demo/release").await.body, set.body);
    server.stop().await;
}

#[tokio::test]
async fn formations_follow_scale_requests() {
    let server = Server::start().await;
    let mut ids = Redaction::default();
    let (app, release) = demo(&server).await;
    ids.redact(&format!("{app}{release}"));
    let path = format!("/apps/demo/formations/{release}");
    let put = server.put(&path, r#"{"processes":{"web":1},"tags":{"web":{}}}"#).await;
    let want = r#"200 {"app":"<A>","release":"<B>","processes":{"web":1},"tags":{"web":{}},"created_at":"<t>","updated_at":"<t>"}"#;
    assert_eq!(ids.redact(&put.line()), want);
    assert_eq!(server.get(&path).await.body, put.body);

    let scale = format!("/apps/demo/scale/{release}");
    let body = r#"{"id":"","app":"","release":"","state":"pending","new_processes":{"web":3,"worker":0},"new_tags":{"web":{"a":"b"}},"created_at":null,"updated_at":null}"#;
    let scaled = server.put(&scale, body).await;
    let want = r#"200 {"id":"<C>","app":"<A>","release":"<B>","state":"pending","old_processes":{"web":1},"new_processes":{"web":3,"worker":0},"old_tags":{"web":{}},"new_tags":{"web":{"a":"b"}},"created_at":"<t>","updated_at":"<t>"}"#;
    assert_eq!(ids.redact(&scaled.line()), want);
    let expanded = ids.redact(&server.get(&format!("{path}?expand=true")).await.body);
    assert!(expanded.contains(r#""processes":{"web":3,"worker":0},"tags":{"web":{"a":"b"}},"updated_at":"<t>","pending_scale_request":{"id":"<C>","app":"<A>","release":"<B>","state":"pending","old_processes":{"web":1},"new_processes":{"web":3,"worker":0},"#), "{expanded}");
    assert!(expanded.ends_with(r#""created_at":"<t>","updated_at":null}}"#), "{expanded}");

    let complete = format!(r#"{{"id":"{}","state":"complete"}}"#, scaled.field("id"));
    let want = r#"200 {"id":"<C>","app":"<A>","release":"<B>","state":"complete","created_at":null,"updated_at":"<t>"}"#;
    assert_eq!(ids.redact(&server.put(&scale, &complete).await.line()), want);
    assert!(!server.get(&format!("{path}?expand=true")).await.body.contains("pending_scale"));
    let tags = server.put(&path, r#"{"tags":{"web":{"disk":"ssd"}}}"#).await;
    assert!(tags.body.contains(r#""processes":{"web":0,"worker":0}"#), "{}", tags.body);
    assert_eq!(server.get("/formations?active=true").await.body, "[]");

    assert_eq!(server.delete(&path).await.line(), "200 ");
    assert_eq!(server.get(&path).await.status, 404);
    assert_eq!(server.delete(&path).await.status, 404);
    assert_eq!(server.get("/apps/demo/formations").await.body, "[]");
    assert_eq!(server.put(&path, r#"{"processes":{"web":2}}"#).await.status, 200);
    assert_eq!(server.get("/formations?active=true").await.json().as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn jobs_keep_what_their_first_record_said() {
    let server = Server::start().await;
    let mut ids = Redaction::default();
    let (app, release) = demo(&server).await;
    ids.redact(&format!("{app}{release}"));
    let uuid = "0f0e0d0c-1111-4222-8333-abcdefabcdef";
    let path = format!("/apps/demo/jobs/{uuid}");
    let first = format!(
        r#"{{"uuid":"{uuid}","app":"{app}","release":"{release}","type":"web","state":"pending","meta":{{"m":"1"}}}}"#
    );
    let want = r#"200 {"uuid":"<C>","app":"<A>","release":"<B>","type":"web","state":"pending","meta":{"m":"1"},"created_at":"<t>","updated_at":"<t>"}"#;
    assert_eq!(ids.redact(&server.put(&path, &first).await.line()), want);
    assert_eq!(server.get("/active-jobs").await.json().as_array().unwrap().len(), 1);
    let later = format!(
        r#"{{"id":"host0-{uuid}","uuid":"{uuid}","host_id":"host0","app":"{app}","release":"{release}","type":"web2","state":"down","exit_status":1,"host_error":"boom","run_at":"2026-01-02T03:04:05Z"}}"#
    );
    assert_eq!(server.put(&path, &later).await.status, 200);
    let want = r#"200 {"id":"host0-<C>","uuid":"<C>","host_id":"host0","app":"<A>","release":"<B>","type":"web","state":"down","meta":{"m":"1"},"exit_status":1,"host_error":"boom","run_at":"2026-01-02T03:04:05Z","created_at":"<t>","updated_at":"<t>"}"#;
    for path in [path.clone(), format!("/apps/x/jobs/host7-{uuid}")] {
        assert_eq!(ids.redact(&server.get(&path).await.line()), want);
    }
    assert_eq!(server.put(&path, &later).await.status, 200);
    let events = crate::support::accepting("/events?object_types=job", "application/json");
    let events = crate::support::send(&server.http, events).await.json();
    let states: Vec<_> =
        events.as_array().unwrap().iter().map(|e| e["data"]["state"].clone()).collect();
    assert_eq!(states, ["down", "pending"], "each state is told once");
    assert_eq!(server.get("/active-jobs").await.body, "[]");
    server.stop().await;
}

#[tokio::test]
async fn a_job_that_runs_is_listed_however_many_came_and_went_after_it() {
    let server = Server::start().await;
    let (app, release) = demo(&server).await;
    let uuid = "0f0e0d0c-1111-4222-8333-abcdefabcdef";
    let job = format!(
        r#"{{"uuid":"{uuid}","app":"{app}","release":"{release}","type":"web","state":"up"}}"#
    );
    assert_eq!(server.put(&format!("/apps/demo/jobs/{uuid}"), &job).await.status, 200);
    let ended = format!(
        "INSERT INTO jobs (uuid, app_id, release_id, type, state) \
         SELECT gen_random_uuid(), '{app}', '{release}', 'web', 'down' FROM generate_series(1, 1500)"
    );
    server.sql(&ended).await;
    let listed = server.get("/apps/demo/jobs").await.json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 1001);
    assert_eq!(listed.last().unwrap()["uuid"], uuid);
    server.stop().await;
}
