//! What a server answers, byte for byte, and how it stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use kit_http::{
    AnyJson, ApiError, BodyLimit, Client, Json, Query, RequestId, Status, status_router,
};
use kit_tasks::Tasks;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::Semaphore;

use super::{PATIENCE, ask, builder_of, raw, start};

#[derive(Debug, Deserialize, Serialize)]
struct Thing {
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "kit_http::null_as_default")]
    tags: BTreeMap<String, String>,
}

async fn echo(Json(thing): Json<Thing>) -> Json<Thing> {
    Json(thing)
}

async fn echo_any(AnyJson(thing): AnyJson<Thing>) -> Json<Thing> {
    Json(thing)
}

fn routes() -> Router {
    Router::new()
        .route("/echo", post(echo))
        .route("/any", post(echo_any))
        .route("/list", post(async |Json(list): Json<Vec<u8>>| Json(list)))
        .route("/small", post(echo).layer(axum::Extension(BodyLimit(16))))
        .route("/query", get(async |Query(thing): Query<Thing>| thing.name))
        .route("/panic", get(async || -> String { panic!("on purpose") }))
        .route("/id", get(async |id: axum::Extension<RequestId>| id.0.0))
        .route("/taken", get(async || ApiError::conflict("Duplicate route")))
}

const SYNTAX: &str =
    r#"{"code":"syntax_error","message":"The provided JSON input is invalid","retry":false}"#;

#[tokio::test]
async fn bodies_are_decoded_by_the_shared_rules() {
    let (server, _) = start(routes()).await;
    let json = "application/json";
    let no_type = r#"{"code":"validation_error","message":"Content-Type must be application/json","retry":false}"#;
    let too_big = r#"{"code":"request_body_too_big","message":"The provided request body is too big","retry":false}"#;
    let empty = r#"{"name":"","tags":{}}"#;
    for (path, content_type, body, status, want) in [
        ("/echo", json, r#"{"name":"<a&b>"}"#, 200, r#"{"name":"\u003ca\u0026b\u003e","tags":{}}"#),
        ("/echo", "application/json; charset=utf-8", "{}", 200, empty),
        ("/echo", json, "null", 200, empty),
        ("/echo", json, r#"{"tags":null,"more":[1]} trailing"#, 200, empty),
        ("/echo", "text/plain", "{}", 400, no_type),
        ("/any", "text/plain", "{}", 200, empty),
        ("/echo", json, "", 400, SYNTAX),
        ("/echo", json, r#"{"name":"#, 400, SYNTAX),
        ("/echo", json, r#"{"name":1}"#, 400, SYNTAX),
        ("/echo", json, "[", 400, SYNTAX),
        ("/echo", json, " []", 400, SYNTAX),
        ("/echo", json, r#"["name"]"#, 400, SYNTAX),
        ("/list", json, "[1, 2]", 200, "[1,2]"),
        ("/small", json, r#"{"name":"much too long"}"#, 400, too_big),
    ] {
        let got = ask(server.addr(), "POST", path, content_type, body).await;
        assert_eq!(got, (status, json.to_owned(), want.to_owned()), "{path} {body}");
    }
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_the_plain_404() {
    let (server, _) = start(routes()).await;
    for (method, path) in
        [("GET", "/nowhere"), ("DELETE", "/echo"), ("GET", "/echo"), ("PATCH", "/")]
    {
        let got = ask(server.addr(), method, path, "", "").await;
        let want = (404, "text/plain; charset=utf-8".to_owned(), "404 page not found\n".to_owned());
        assert_eq!(got, want, "{method} {path}");
    }
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let (server, _) = start(routes()).await;
    let want = r#"{"code":"unknown_error","message":"Something went wrong","retry":false}"#;
    for _ in 0..2 {
        let (status, _, body) = ask(server.addr(), "GET", "/panic", "", "").await;
        assert_eq!((status, body.as_str()), (500, want));
    }
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn errors_and_queries_answer_json() {
    let (server, _) = start(routes()).await;
    let (status, _, body) = ask(server.addr(), "GET", "/taken", "", "").await;
    assert_eq!(
        (status, body.as_str()),
        (409, r#"{"code":"conflict","message":"Duplicate route","retry":false}"#)
    );
    let (status, _, body) = ask(server.addr(), "GET", "/query?name=a%20b", "", "").await;
    assert_eq!((status, body.as_str()), (200, "a b"));
    let (status, _, body) = ask(server.addr(), "GET", "/query?name=a&name=b", "", "").await;
    assert_eq!(status, 400);
    assert!(body.contains("validation_error"), "{body}");
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_request_has_the_clients_id_or_a_fresh_one() {
    let (server, _) = start(routes()).await;
    let get =
        |header: &str| format!("GET /id HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    assert!(raw(server.addr(), &get("X-Request-ID: abc\r\n")).await.ends_with("\r\n\r\nabc"));
    let answer = raw(server.addr(), &get("")).await;
    assert_eq!(answer.split("\r\n\r\n").nth(1).unwrap().len(), 36, "{answer}");
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn the_status_page_is_exact() {
    let healthy = || async { Status::healthy() };
    let (server, client) = start(status_router("dev", healthy)).await;
    let (status, content_type, body) =
        ask(server.addr(), "GET", "/.well-known/status", "", "").await;
    assert_eq!((status, content_type.as_str()), (200, "application/json"));
    let want = "{\n  \"data\": {\n    \"status\": \"healthy\",\n    \"version\": \"dev\"\n  }\n}\n";
    assert_eq!(body, want);
    let read: kit_http::StatusBody = client.get_json("/.well-known/status").await.unwrap();
    assert_eq!(read.data.version, "dev");
    server.stop(PATIENCE).await;

    let sick = || async { Status::unhealthy("no database") };
    let (server, _) = start(status_router("dev", sick)).await;
    let (status, _, body) = ask(server.addr(), "GET", "/.well-known/status", "", "").await;
    assert_eq!(status, 500);
    assert!(
        body.contains("\"status\": \"unhealthy\",\n    \"detail\": \"no database\","),
        "{body}"
    );
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_stop_lets_requests_in_progress_finish() {
    let (entered, leave) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (seen, gate) = (entered.clone(), leave.clone());
    let slow = get(async move || {
        seen.add_permits(1);
        gate.acquire().await.unwrap().forget();
        "finished"
    });
    let (server, client) = start(Router::new().route("/slow", slow)).await;
    let request = client.send(kit_http::Request::get("/slow"));
    let stop = async {
        entered.acquire().await.unwrap().forget();
        server.tasks.stop();
        // The listener is gone before the request is: nobody new gets in.
        while TcpStream::connect(server.addr()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        leave.add_permits(1);
    };
    let (response, ()) = tokio::join!(request, stop);
    assert_eq!(response.unwrap().bytes().await.unwrap(), "finished");
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options =
        kit_http::ServeOptions { header_timeout: Duration::from_millis(20), ..Default::default() };
    let server = kit_http::serve_with(&Tasks::root("test"), listener, routes(), options).unwrap();
    let answer = tokio::time::timeout(PATIENCE, raw(server.addr(), "GET /ec")).await;
    assert!(answer.is_ok(), "the server closed the connection");
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_their_turn() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = kit_http::ServeOptions { max_connections: 1, ..Default::default() };
    let server = kit_http::serve_with(&Tasks::root("test"), listener, routes(), options).unwrap();
    let (addr, json) = (server.addr(), "application/json");
    let all = (0..8).map(|_| ask(addr, "POST", "/echo", json, "{}"));
    for (status, ..) in futures_util::future::join_all(all).await {
        assert_eq!(status, 200);
    }
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_unix_socket_serves_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let tasks = Tasks::root("test");
    let server = kit_http::serve_unix(&tasks, UnixListener::bind(&path).unwrap(), routes());
    let client = Client::builder("http://host").unix_socket(&path).build().unwrap();
    let thing: Thing = client.post_json("/echo", &serde_json::json!({"name": "x"})).await.unwrap();
    assert_eq!(thing.name, "x");
    server.stop(PATIENCE).await;
    let gone = builder_of(([127, 0, 0, 1], 1).into()).unix_socket(&path).build().unwrap();
    drop(dir);
    assert!(gone.delete("/echo").await.unwrap_err().is_connect());
}
