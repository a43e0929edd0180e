//! What the client makes of answers, and whom it asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response as AxumResponse};
use axum::routing::{any, get, post};
use http::{HeaderMap, Method, StatusCode};
use kit_http::{ApiError, Client, ClientError, ErrorCode, Ignored, Request, Resolve, Resolved};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};

use super::{PATIENCE, builder_of, client_of, start};

async fn answer(Path(status): Path<u16>) -> AxumResponse {
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("content-type", "text/plain")], "plain words\nmore").into_response()
}

#[tokio::test]
async fn answers_become_errors_that_say_what_they_mean() {
    let api = get(async || ApiError::object_not_found("no volume with id \"x\""));
    let text_404 = get(async || kit_http::not_found());
    let routes = Router::new()
        .route("/api", api)
        .route("/404", text_404)
        .route("/status/{status}", get(answer))
        .route("/text", get(async || "no json"));
    let (server, client) = start(routes).await;
    let addr = server.addr();

    let error = client.get_json::<Ignored>("/api").await.unwrap_err();
    assert_eq!(error.api_code(), Some(ErrorCode::ObjectNotFound));
    assert_eq!(error.to_string(), "object_not_found: no volume with id \"x\"");
    assert!(error.is_not_found());

    let error = client.get_json::<Ignored>("/404").await.unwrap_err();
    assert!(matches!(error, ClientError::NotFound { .. }) && error.is_not_found(), "{error}");

    let error = client.get_json::<Ignored>("/status/502").await.unwrap_err();
    let want = format!(
        "unexpected HTTP status 502 Bad Gateway from http://{addr}/status/502: plain words"
    );
    assert_eq!(error.to_string(), want);

    let error = client.get_json::<Ignored>("/text").await.unwrap_err();
    assert!(matches!(error, ClientError::Decode { .. }), "{error}");
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn empty_answers_read_as_nothing() {
    let (server, client) = start(Router::new().route("/", any(async || ()))).await;
    client.delete("/").await.unwrap();
    let () = client.put_json("/", &1).await.unwrap();
    let none: Option<u32> = client.get_json("/").await.unwrap();
    assert_eq!(none, None);
    server.stop(PATIENCE).await;
}

/// What a request said: method, key, type, body.
async fn echo(method: Method, headers: HeaderMap, body: String) -> String {
    let header = |name| headers.get(name).map_or("-", |value| value.to_str().unwrap());
    let (key, kind) = (header("authorization"), header("content-type"));
    format!("{method} {key} {kind} {body}")
}

async fn to(State(target): State<String>, Path(status): Path<u16>) -> AxumResponse {
    (StatusCode::from_u16(status).unwrap(), [("location", target)]).into_response()
}

async fn text(client: &Client, request: Request) -> Result<String, ClientError> {
    let body = client.send(request).await?.bytes().await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn redirects_resend_the_body_but_keep_the_key_at_home() {
    let (other, _) = start(Router::new().route("/echo", any(echo))).await;
    let there = format!("http://{}/echo", other.addr());
    let routes = Router::new()
        .route("/echo", any(echo))
        .route("/json", post(async |body: String| axum::Json(body)))
        .route("/here/{status}", any(to).with_state("/echo".to_owned()))
        .route("/there/{status}", any(to).with_state(there))
        .route("/loop/{status}", any(to).with_state("/loop/307".to_owned()));
    let (server, _) = start(routes).await;
    let client = builder_of(server.addr()).key("secret").build().unwrap();
    let post = |path: &str| Request::new(Method::POST, path).body("body");

    // ":secret" in base64.
    let at_home = "POST Basic OnNlY3JldA== application/json body";
    assert_eq!(text(&client, post("/echo")).await.unwrap(), at_home);
    assert_eq!(text(&client, post("/here/307")).await.unwrap(), at_home);
    assert_eq!(text(&client, post("/there/307")).await.unwrap(), "POST - application/json body");
    let found = text(&client, Request::get("/here/302")).await.unwrap();
    assert!(found.starts_with("GET Basic"), "{found}");

    let error = text(&client, post("/here/302")).await.unwrap_err();
    assert!(matches!(error, ClientError::Status { .. }), "a POST follows no 302: {error}");
    let error = text(&client, post("/loop/307")).await.unwrap_err();
    assert!(matches!(error, ClientError::TooManyRedirects { limit: 10 }), "{error}");

    let pieces =
        || futures_util::stream::iter([Ok::<_, std::io::Error>("bo".into()), Ok("dy".into())]);
    let streamed = |path: &str| Request::new(Method::POST, path).body_stream(pieces());
    assert_eq!(text(&client, streamed("/echo")).await.unwrap(), at_home);
    let json = Request::new(Method::POST, "/json").body_stream(pieces());
    assert_eq!(client.call::<String>(json).await.unwrap(), "body", "a call sends streams too");
    let error = text(&client, streamed("/here/307")).await.unwrap_err();
    assert!(matches!(error, ClientError::BodyNotRepeatable { .. }), "{error}");
    server.stop(PATIENCE).await;
    other.stop(PATIENCE).await;
}

/// A socket that is bound, so that nobody takes its port, but does not listen.
fn nobody() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    socket
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_away() {
    let (server, _) = start(Router::new().route("/", get(async || axum::Json(7)))).await;
    let away = nobody();
    let both =
        [format!("http://{}", away.local_addr().unwrap()), format!("http://{}", server.addr())];
    let client = Client::builder_any(both).connect_timeout(PATIENCE).build().unwrap();
    for _ in 0..2 {
        assert_eq!(client.get_json::<u32>("/").await.unwrap(), 7);
    }
    assert_eq!(client.base().authority().unwrap().as_str(), server.addr().to_string());
    server.stop(PATIENCE).await;
    assert!(client.get_json::<u32>("/").await.unwrap_err().is_connect());
}

#[tokio::test]
async fn after_a_server_that_takes_too_long_the_next_one_is_asked() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (server, _) = start(Router::new().route("/", get(async || axum::Json(7)))).await;
    let both = [silent.local_addr().unwrap(), server.addr()].map(|addr| format!("http://{addr}"));
    let client = Client::builder_any(both).request_timeout(Duration::from_millis(200));
    let client = client.build().unwrap();
    assert!(matches!(client.get_json::<u32>("/").await, Err(ClientError::Timeout { .. })));
    let again = async {
        // The other one may be slow too, on a busy machine.
        loop {
            if let Ok(seven) = client.get_json::<u32>("/").await {
                break seven;
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, again).await.unwrap(), 7);
    assert_eq!(client.base().authority().unwrap().as_str(), server.addr().to_string());
    server.stop(PATIENCE).await;
}

#[derive(Debug)]
struct Fixed(SocketAddr);

impl Resolve for Fixed {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolved<'a> {
        assert_eq!(port, 80);
        let found = host.ends_with(".discoverd").then(|| vec![self.0]);
        Box::pin(async move { Ok(found) })
    }
}

#[tokio::test]
async fn names_resolve_by_rule_by_resolver_then_by_the_system() {
    let (server, _) = start(Router::new().route("/", get(async || axum::Json(7)))).await;
    let port = server.addr().port();
    for host in ["localhost", "git.flynn.localhost", "X.LOCALHOST."] {
        let client = Client::builder(&format!("http://{host}:{port}")).connect_timeout(PATIENCE);
        assert_eq!(client.build().unwrap().get_json::<u32>("/").await.unwrap(), 7, "{host}");
    }
    let client =
        Client::builder("http://blobstore.discoverd").resolver(Arc::new(Fixed(server.addr())));
    let client = client.connect_timeout(PATIENCE).build().unwrap();
    assert_eq!(client.get_json::<u32>("/").await.unwrap(), 7);
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_call_is_repeated_while_the_server_asks_for_it() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let busy = post(async move || match count.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Err(ApiError::service_unavailable("not yet")),
        _ => Ok(axum::Json(7)),
    });
    let (server, client) = start(Router::new().route("/", busy)).await;
    assert_eq!(
        client.post_json::<_, u32>("/", &1).await.unwrap_err().api_code(),
        Some(ErrorCode::ServiceUnavailable)
    );
    let patient = builder_of(server.addr()).retry_for(PATIENCE).build().unwrap();
    assert_eq!(patient.post_json::<_, u32>("/", &1).await.unwrap(), 7);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client =
        builder_of(listener.local_addr().unwrap()).request_timeout(Duration::from_millis(50));
    let error = client.build().unwrap().get_json::<Ignored>("/").await.unwrap_err();
    assert_eq!(error.to_string(), "timed out after 50ms waiting for the whole answer");
    assert!(!error.is_retryable(), "it may have been carried out");
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_an_error() {
    let (server, _) = start(Router::new().route("/", get(async || "x".repeat(100)))).await;
    let client = builder_of(server.addr()).max_body(10).build().unwrap();
    let error = client.get_json::<Ignored>("/").await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { limit: 10, .. }), "{error}");
    server.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_pooled_connection_that_the_server_closed_costs_nothing() {
    // Each answer is followed by a close that the answer did not announce.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_of(listener.local_addr().unwrap());
    let server = async {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7").await.unwrap();
        }
    };
    let calls = async {
        for _ in 0..3 {
            assert_eq!(client.get_json::<u32>("/").await.unwrap(), 7);
        }
    };
    tokio::join!(server, calls);
}

#[tokio::test]
async fn tls_is_checked_by_pin_or_by_roots() {
    kit_tls::install_provider();
    let now = kit_clock::Clock::wall(&kit_clock::SystemClock::start());
    let validity = kit_tls::Validity::starting(now, Duration::from_secs(86_400));
    let authority = kit_tls::Authority::generate("test", validity).unwrap();
    let identity = authority.issue(&["x.localhost"], validity).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://x.localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = tokio_rustls::TlsAcceptor::from(kit_tls::server_config(&identity).unwrap());
    let server = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 1024];
            let Ok(1..) = stream.read(&mut head).await else { continue };
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    };
    let client = |tls| Client::builder(&url).tls(tls).connect_timeout(PATIENCE).build().unwrap();
    let calls = async {
        let pinned = client(kit_tls::client_config_pinned(identity.pin()));
        assert_eq!(pinned.get_json::<u32>("/").await.unwrap(), 7);
        let rooted = client(kit_tls::client_config(kit_tls::roots(authority.cert_pem()).unwrap()));
        assert_eq!(rooted.get_json::<u32>("/").await.unwrap(), 7);
        let other = authority.issue(&["x.localhost"], validity).unwrap();
        let wrong = client(kit_tls::client_config_pinned(other.pin()));
        let error = wrong.get_json::<u32>("/").await.unwrap_err();
        assert!(error.is_connect(), "{error}");
        let causes =
            std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
        let text: Vec<_> = causes.map(ToString::to_string).collect();
        assert!(text.join(": ").contains("does not match the provided pin"), "{text:?}");
        let bare = Client::builder(&url).connect_timeout(PATIENCE).build().unwrap();
        assert!(bare.get_json::<u32>("/").await.unwrap_err().is_connect());
    };
    tokio::select! {
        () = server => {}
        () = calls => {}
    }
}

#[test]
fn bad_base_urls_are_refused() {
    for url in ["", "ftp://x", "http://", "http:// x"] {
        assert!(matches!(Client::new(url), Err(ClientError::BadUrl { .. })), "{url}");
    }
    assert_eq!(Client::new("192.0.2.1:1113").unwrap().base(), "http://192.0.2.1:1113/");
}
