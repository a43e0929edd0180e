//! Events and upgrades between client and server.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request as AxumRequest, State};
use axum::routing::{get, post};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Method};
use kit_http::sse::{self, Event};
use kit_http::{ApiError, ClientError, Request, SseError, accept_upgrade, wants_sse};
use kit_tasks::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{PATIENCE, builder_of, raw, start};

fn routes() -> Router {
    let numbers = async |headers: HeaderMap| {
        assert!(wants_sse(&headers));
        let last = headers.get("last-event-id").map_or("-", |id| id.to_str().unwrap()).to_owned();
        let first = Event::data(format!("\"{last}\"")).with_id("9");
        sse::response(stream::iter([first, Event::json("a\nb")]))
    };
    let broken = async || sse::response(stream::iter([Event::data("1"), Event::error("overflow")]));
    let silent = async || sse::response(stream::iter([Event::data("1")]).chain(stream::pending()));
    let kept_alive = async || {
        let events = stream::iter([Event::data("1")]).chain(stream::pending());
        sse::response_with(events, Duration::from_millis(5))
    };
    Router::new()
        .route("/numbers", get(numbers))
        .route("/broken", get(broken))
        .route("/silent", get(silent))
        .route("/alive", get(kept_alive))
        .route("/refused", get(async || ApiError::validation("Last-Event-Id", "is invalid")))
}

#[tokio::test]
async fn events_arrive_with_ids_and_end() {
    let (server, client) = start(routes()).await;
    let mut events = client.events("/numbers", Some("4")).await.unwrap();
    let first = events.next_item().await.unwrap().unwrap();
    assert_eq!((first.id.as_deref(), first.data.as_str()), (Some("9"), "\"4\""));
    assert_eq!(events.next_json::<String>().await.unwrap().unwrap(), "a\nb");
    assert!(events.next_item().await.is_none(), "the normal end is no error");

    let mut events = client.events("/broken", None).await.unwrap();
    assert_eq!(events.next_json::<u32>().await.unwrap().unwrap(), 1);
    let error = events.next_item().await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "Server error: overflow");
    assert!(events.next_item().await.is_none(), "nothing follows an error");

    let error = client.events("/refused", None).await.unwrap_err();
    assert_eq!(error.to_string(), "validation_error: Last-Event-Id is invalid");
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_silent_stream_is_given_up_but_a_kept_alive_one_is_not() {
    let (server, _) = start(routes()).await;
    let impatient =
        builder_of(server.addr()).stream_timeout(Duration::from_millis(100)).build().unwrap();
    let mut events = impatient.events("/silent", None).await.unwrap();
    assert!(events.next_item().await.unwrap().is_ok());
    match events.next_item().await {
        Some(Err(SseError::Transport(cause))) => {
            assert!(matches!(*cause, ClientError::Timeout { .. }), "{cause}");
        }
        other => panic!("{other:?}"),
    }
    let mut events =
        builder_of(server.addr()).build().unwrap().events("/alive", None).await.unwrap();
    assert!(events.next_item().await.unwrap().is_ok());
    let waited = tokio::time::timeout(Duration::from_millis(50), events.next_item()).await;
    assert!(waited.is_err(), "comments are no items");
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_stop_ends_event_streams_at_once() {
    let (server, client) = start(routes()).await;
    let mut events = client.events("/silent", None).await.unwrap();
    assert!(events.next_item().await.unwrap().is_ok());
    server.tasks.stop();
    assert!(events.next_item().await.is_none());
    server.stop(PATIENCE).await;
}

async fn shout(State(tasks): State<Tasks>, mut request: AxumRequest) -> axum::response::Response {
    let body = axum::body::to_bytes(std::mem::take(request.body_mut()), 100).await.unwrap();
    let (response, upgrading) = accept_upgrade(&mut request, "shout/0");
    tasks.spawn("shout", async move {
        let mut connection = upgrading.connection().await.unwrap();
        connection.write_all(&body).await.unwrap();
        let mut bytes = [0; 64];
        loop {
            match connection.read(&mut bytes).await.unwrap() {
                0 => break,
                read => connection.write_all(&bytes[..read].to_ascii_uppercase()).await.unwrap(),
            }
        }
    });
    response
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let tasks = Tasks::root("handlers");
    let routes = Router::new()
        .route("/shout", post(shout).with_state(tasks.clone()))
        .route("/refuse", post(async || ApiError::conflict("job is attached")))
        .route("/ignore", post(async || "nothing"));
    let (server, client) = start(routes).await;
    let post = |path| Request::new(Method::POST, path).body("hello");

    let mut connection = client.upgrade(post("/shout"), "shout/0").await.unwrap();
    let mut greeting = [0; 5];
    connection.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"hello");
    // A stop of the server leaves connections that left HTTP to their owners.
    server.tasks.stop();
    connection.write_all(b"still here").await.unwrap();
    let mut echoed = [0; 10];
    connection.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"STILL HERE");
    drop(connection);
    tasks.shutdown(PATIENCE).await;
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_server_that_does_not_upgrade_is_an_error() {
    let routes = Router::new()
        .route("/refuse", post(async || ApiError::conflict("job is attached")))
        .route("/ignore", post(async || "nothing"));
    let (server, client) = start(routes).await;
    let post = |path| Request::new(Method::POST, path);
    let error = client.upgrade(post("/refuse"), "shout/0").await.unwrap_err();
    assert_eq!(error.to_string(), "conflict: job is attached");
    let error = client.upgrade(post("/ignore"), "shout/0").await.unwrap_err();
    assert!(matches!(error, ClientError::NotUpgraded { .. }), "{error}");
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn the_head_of_a_101_is_as_old_clients_know_it() {
    let tasks = Tasks::root("handlers");
    let routes = Router::new().route("/shout", post(shout).with_state(tasks.clone()));
    let (server, _) = start(routes).await;
    let request = "POST /shout HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: shout/0\r\n\
                   Content-Length: 2\r\n\r\nhi";
    let mut stream = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.contains("connection: upgrade\r\nupgrade: shout/0\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
    // The same path without the headers is not upgraded and not answered for ever.
    drop(raw(server.addr(), "GET /shout HTTP/1.0\r\n\r\n").await);
    tasks.shutdown(PATIENCE).await;
    server.stop(PATIENCE).await;
}
