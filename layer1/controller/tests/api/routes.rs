//! Routes: the documented answers, the rules between routes, and the events that routers follow.

use crate::examples::demo;
use crate::support::{Redaction, Server, accepting, send};

#[tokio::test]
async fn routes_are_added_refused_changed_and_deleted() {
    let server = Server::start().await;
    let (app, _) = demo(&server).await;
    let mut ids = Redaction::default();
    ids.redact(&app);
    let body = r#"{"type":"http","service":"demo-web","domain":"www.example.com","drain_backends":true,"sticky":true}"#;
    let made = server.post("/apps/demo/routes", body).await;
    let want = r#"200 {"type":"http","id":"<B>","parent_ref":"controller/apps/<A>","service":"demo-web","leader":false,"created_at":"<t>","updated_at":"<t>","domain":"www.example.com","sticky":true,"path":"/","drain_backends":true}"#;
    assert_eq!(ids.redact(&made.line()), want);
    let path = format!("/apps/demo/routes/http/{}", made.field("id"));
    assert_eq!(server.get(&path).await.body, made.body);

    let plain =
        r#"{"type":"http","service":"demo-web","domain":"www.example.com","drain_backends":true}"#;
    let want = r#"409 {"code":"conflict","message":"Duplicate route","detail":{"type":"http","parent_ref":"controller/apps/<A>","service":"demo-web","leader":false,"created_at":"0001-01-01T00:00:00Z","updated_at":"0001-01-01T00:00:00Z","domain":"www.example.com","drain_backends":true},"retry":false}"#;
    assert_eq!(ids.redact(&server.post("/apps/demo/routes", plain).await.line()), want);
    for (body, code, message) in [
        (r#"{"type":"http","service":"demo-web","domain":"b.example.com"}"#, 400, "Invalid route"),
        (
            r#"{"type":"http","service":"s","domain":"c.example.com","path":"/p"}"#,
            400,
            "Invalid route",
        ),
        (
            r#"{"type":"http","service":"s","domain":"www.example.com","path":"p/"}"#,
            400,
            "Invalid route",
        ),
        (
            r#"{"type":"tcp","service":"demo-tcp","port":80}"#,
            409,
            "Port reserved for HTTP/HTTPS traffic",
        ),
        (
            r#"{"type":"udp"}"#,
            400,
            "type Enum error. The data must be equal to one of these values [http tcp].",
        ),
    ] {
        let answer = server.post("/apps/demo/routes", body).await;
        assert_eq!((answer.status, answer.field("message").as_str()), (code, message), "{body}");
    }

    let below = r#"{"type":"http","service":"api","domain":"www.example.com","path":"/baz"}"#;
    let below = server.post("/apps/demo/routes", below).await;
    assert_eq!(below.field("path"), "/baz/");
    let want =
        r#"400 {"code":"validation_error","message":"Route has dependent routes","retry":false}"#;
    assert_eq!(server.delete(&path).await.line(), want);

    let change = r#"{"service":"other","domain":"www.example.com"}"#;
    let changed = server.put(&path, change).await;
    assert_eq!((changed.status, changed.field("service")), (200, "other".to_owned()));
    assert_eq!(server.get(&path).await.body, changed.body, "it still belongs to its app");
    let moved = server.put(&path, r#"{"service":"other","domain":"elsewhere.example.com"}"#).await;
    assert_eq!(moved.status, 404, "a route does not change its domain");

    let list = server.get("/apps/demo/routes").await.json();
    assert_eq!(list[0]["id"], below.field("id"), "the newest first");
    assert_eq!(
        server.delete(&format!("/apps/demo/routes/http/{}", below.field("id"))).await.status,
        200
    );
    assert_eq!(server.delete(&path).await.line(), "200 ");
    assert_eq!(server.get(&path).await.status, 404);
    assert_eq!(server.get("/routes").await.body, "[]");
    server.stop().await;
}

#[tokio::test]
async fn tcp_ports_are_given_out_once() {
    let server = Server::start().await;
    demo(&server).await;
    let body = r#"{"type":"tcp","service":"demo-tcp"}"#;
    let first = server.post("/apps/demo/routes", body).await;
    assert_eq!(first.json()["port"], 3000);
    assert_eq!(server.post("/apps/demo/routes", body).await.json()["port"], 3001);
    let path = format!("/apps/demo/routes/tcp/{}", first.field("id"));
    assert_eq!(server.delete(&path).await.status, 200);
    assert_eq!(server.post("/apps/demo/routes", body).await.json()["port"], 3002);
    let explicit = r#"{"type":"tcp","service":"demo-tcp","port":3000}"#;
    assert_eq!(server.post("/apps/demo/routes", explicit).await.json()["port"], 3000);
    let again = server.post("/apps/demo/routes", explicit).await;
    assert_eq!(again.field("message"), "Duplicate route");
    server.stop().await;
}

#[tokio::test]
async fn certificates_must_fit_their_key_and_are_stored_once() {
    kit_tls::install_provider();
    let server = Server::start().await;
    demo(&server).await;
    let authority = |name| {
        let now = kit_clock::Wall::from_epoch(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap());
        let span = std::time::Duration::from_secs(3600);
        kit_tls::Authority::generate(name, kit_tls::Validity::starting(now, span)).unwrap()
    };
    let (one, two) = (authority("one"), authority("two"));
    let route = |domain: &str, key: String| {
        serde_json::json!({
            "type": "http", "service": "s", "domain": domain,
            "certificate": {"cert": one.cert_pem(), "key": key},
        })
        .to_string()
    };
    let made = server.post("/apps/demo/routes", &route("a.example.com", one.key_pem())).await;
    assert_eq!(made.status, 200, "{made:?}");
    let stored = made.json()["certificate"].clone();
    assert_eq!(stored["cert"], one.cert_pem().trim());
    let path = format!("/apps/demo/routes/http/{}", made.field("id"));
    assert_eq!(server.get(&path).await.body, made.body);
    let same = server.post("/apps/demo/routes", &route("b.example.com", one.key_pem())).await;
    assert_eq!(same.json()["certificate"], stored);
    let wrong = server.post("/apps/demo/routes", &route("c.example.com", two.key_pem())).await;
    assert_eq!(
        wrong.field("message"),
        "Certificate invalid: tls: private key does not match public key"
    );
    let none = server.post("/apps/demo/routes", &route("c.example.com", "x".to_owned())).await;
    assert_eq!(
        none.field("message"),
        "Certificate invalid: tls: failed to find any PEM data in key input"
    );
    let updated =
        server.put(&path, r#"{"service":"s","domain":"a.example.com","leader":true}"#).await;
    assert_eq!(updated.json()["certificate"], stored, "an update without a certificate keeps it");
    server.stop().await;
}

#[tokio::test]
async fn an_app_gets_a_route_of_the_clusters_domain() {
    let server =
        Server::start_with(|config| config.default_route_domain = Some("flynn.test".to_owned()))
            .await;
    let mut ids = Redaction::default();
    let app = server.post("/apps", r#"{"name":"demo"}"#).await;
    ids.redact(&app.field("id"));
    server.post("/apps", r#"{"name":"sys","meta":{"flynn-system-app":"true"}}"#).await;
    let routes = server.get("/routes").await;
    let want = r#"[{"type":"http","id":"<B>","parent_ref":"controller/apps/<A>","service":"demo-web","leader":false,"created_at":"<t>","updated_at":"<t>","domain":"demo.flynn.test","path":"/","drain_backends":true}]"#;
    assert_eq!(ids.redact(&routes.body), want);
    let events = accepting("/events?app_id=demo", "application/json");
    let events = send(&server.http, events).await.json();
    let kinds: Vec<_> =
        events.as_array().unwrap().iter().map(|e| e["object_type"].clone()).collect();
    assert_eq!(kinds, ["route", "app"], "first the app, then its route");
    server.stop().await;
}
