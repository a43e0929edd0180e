//! What a build may do with its token: tell of its own slug, once or again, and nothing else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use kit_auth::{BuildScope, Keys};
use kit_clock::Wall;
use kit_http::Request;
use serde_json::{Value, json};

use crate::support::{Answer, KEY, Server, client, send, with_header};

const SLUG: &str = "0f0e0d0c-2222-4222-8333-abcdefabcdef";
const OTHER: &str = "0f0e0d0c-3333-4222-8333-abcdefabcdef";

/// The time, since the epoch.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// A token for `slug` that is good for an hour.
fn token(slug: &str) -> String {
    token_until(slug, now() + Duration::from_secs(3600))
}

fn token_until(slug: &str, expires: Duration) -> String {
    let scope = BuildScope {
        app: "0f0e0d0c-1111-4222-8333-abcdefabcdef".parse().unwrap(),
        artifact: slug.parse().unwrap(),
        expires: Wall::from_epoch(expires),
    };
    Keys::parse(KEY).mint(&scope).unwrap()
}

fn slug(id: &str) -> Value {
    json!({
        "id": id,
        "type": "flynn",
        "uri": "http://blobstore.discoverd/slugs/images/abc.json",
        "meta": {"blobstore": "true", "slugbuilder.process_types": "web"},
        "manifest": {"_type": "application/vnd.flynn.image.manifest.v1+json"},
        "layer_url_template": "http://blobstore.discoverd/slugs/layers/{id}.squashfs",
    })
}

async fn tell(server: &Server, token: &str, artifact: &Value) -> Answer {
    let request = Request::new(Method::POST, "/artifacts").json(artifact).unwrap();
    let bearer = format!("Bearer {token}");
    send(&server.http, with_header(request, "authorization", &bearer)).await
}

#[tokio::test]
async fn a_build_tells_of_its_slug_and_of_no_other() {
    let server = Server::start().await;
    let good = token(SLUG);
    let made = tell(&server, &good, &slug(SLUG)).await;
    assert_eq!((made.status, made.field("id").as_str()), (200, SLUG), "{made:?}");
    let again = tell(&server, &good, &slug(SLUG)).await;
    assert_eq!((again.status, again.field("id").as_str()), (200, SLUG), "{again:?}");
    for (field, value) in [
        ("id", json!(OTHER)),
        ("type", json!("docker")),
        ("uri", json!("http://elsewhere/slugs/images/abc.json")),
        ("uri", json!("http://blobstore.discoverd/slugs/images/../../repos/x")),
        ("layer_url_template", json!("http://elsewhere/{id}")),
        ("meta", json!({"flynn.system-image": "true"})),
        ("manifest", Value::Null),
    ] {
        let mut bad = slug(SLUG);
        bad[field] = value;
        let answer = tell(&server, &good, &bad).await;
        assert_eq!(answer.status, 401, "{field}: {answer:?}");
    }
    let late = tell(&server, &token_until(SLUG, now() - Duration::from_secs(1)), &slug(SLUG)).await;
    assert_eq!(late.line(), "401 ");
    server.stop().await;
}

#[tokio::test]
async fn a_token_opens_nothing_else_in_either_form() {
    let server = Server::start().await;
    let token = token(SLUG);
    let as_password = client(&server.running, &token);
    for (method, path) in [
        (Method::GET, "/apps"),
        (Method::POST, "/apps"),
        (Method::GET, "/artifacts"),
        (Method::GET, "/ca-cert"),
        (Method::POST, "/releases"),
        (Method::GET, "/.well-known/status"),
    ] {
        let request = Request::new(method.clone(), path);
        let bearer = with_header(request, "authorization", &format!("Bearer {token}"));
        assert_eq!(send(&server.http, bearer).await.line(), "401 ", "{method} {path}");
        let request = Request::new(method.clone(), path);
        assert_eq!(send(&as_password, request).await.line(), "401 ", "{method} {path}");
    }
    let request = Request::new(Method::POST, "/artifacts").json(&slug(SLUG)).unwrap();
    assert_eq!(send(&as_password, request).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn two_builds_of_the_same_image_get_an_artifact_each() {
    let server = Server::start().await;
    for id in [SLUG, OTHER, OTHER] {
        let made = tell(&server, &token(id), &slug(id)).await;
        assert_eq!((made.status, made.field("id").as_str()), (200, id), "{made:?}");
        let found = server.get(&format!("/artifacts/{id}")).await;
        assert_eq!(found.field("layer_url_template"), slug(id)["layer_url_template"]);
    }
    server.stop().await;
}
