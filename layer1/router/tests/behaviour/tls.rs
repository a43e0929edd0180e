//! TLS: which certificate a client gets, what a broken one costs, HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kit_clock::Clock as _;
use kit_tls::{Authority, Validity};
use router::KeyPairPem;
use router_api::{Certificate, PrivateKeyPem, Route};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: ANY\r\n\r\n";

/// A certificate of an authority of its own; the chain holds the authority too, so that it alone can
/// be trusted in tests.
pub(crate) fn pair(names: &[&str]) -> (String, String) {
    let now = kit_clock::SystemClock::start().wall();
    let validity = Validity::starting(now, Duration::from_secs(86_400));
    let authority = Authority::generate("test", validity).unwrap();
    let leaf = authority.issue(names, validity).unwrap();
    let mut chain = leaf.chain_pem().trim_end().to_owned();
    if !chain.contains(authority.cert_pem().trim()) {
        chain = format!("{chain}\n{}", authority.cert_pem());
    }
    (chain, leaf.key_pem().to_owned())
}

async fn handshake(
    addr: SocketAddr,
    name: &str,
    cert: &str,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    kit_tls::install_provider();
    let roots = kit_tls::roots(cert).unwrap();
    let mut config = rustls::ClientConfig::clone(&kit_tls::client_config(roots));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(addr).await?;
    soon("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// HTTP/1.1 over TLS, trusting what stands in `cert` only.
pub(crate) async fn connect(
    addr: SocketAddr,
    name: &str,
    cert: &str,
) -> std::io::Result<Connection> {
    handshake(addr, name, cert, &[]).await.map(Connection::over)
}

async fn ask(router: &Router, name: &str, cert: &str) -> Result<u16, String> {
    let connected = connect(router.https(), name, cert).await;
    let mut connection = connected.map_err(|error| error.to_string())?;
    Ok(connection.ask(&GET.replace("ANY", name)).await.status)
}

fn with(pair: &(String, String), route: Route) -> Route {
    Route { certificate: Some(Certificate::new(&pair.0, &pair.1)), ..route }
}

#[tokio::test]
async fn the_server_name_decides_about_the_certificate() {
    let cluster = pair(&["default.x", "*.y.x"]);
    let (own, other, shared) = (pair(&["own.x"]), pair(&["own.x"]), pair(&["a.z", "b.z"]));
    let default = KeyPairPem { cert: cluster.0.clone(), key: PrivateKeyPem::new(&cluster.1) };
    let router = Router::start_with(|config| config.default_certificate = Some(default)).await;
    let backend = Backend::named("x").await;
    router.sources.set_addrs("web", &[backend.addr]);
    let routes = [
        with(&own, http_route(1, "own.x", "web")),
        http_route(2, "default.x", "web"),
        http_route(3, "*.y.x", "web"),
        with(&shared, http_route(4, "a.z", "web")),
        with(&shared, http_route(5, "b.z", "web")),
    ];
    router.serve(&routes).await;
    router.backends(1).await;
    for (name, pair) in [
        ("own.x", &own),
        ("default.x", &cluster),
        ("deep.y.x", &cluster),
        ("a.z", &shared),
        ("b.z", &shared),
    ] {
        assert_eq!(ask(&router, name, &pair.0).await, Ok(200), "{name}");
    }
    assert!(ask(&router, "own.x", &cluster.0).await.is_err(), "its own certificate, not ours");
    assert!(ask(&router, "unrouted.x", &cluster.0).await.is_err(), "no route, no handshake");
    let mut changed = routes.to_vec();
    changed[0] = with(&other, http_route(1, "own.x", "web"));
    router.sources.set_routes(&changed);
    eventually("the new certificate", || async {
        ask(&router, "own.x", &other.0).await == Ok(200)
    })
    .await;
}

#[tokio::test]
async fn a_broken_certificate_affects_no_other_route() {
    let cluster = pair(&["bad.x", "worse.x", "good.x"]);
    let (good, wrong) = (pair(&["good.x"]), pair(&["good.x"]));
    let default = KeyPairPem { cert: cluster.0.clone(), key: PrivateKeyPem::new(&cluster.1) };
    let router = Router::start_with(|config| config.default_certificate = Some(default)).await;
    let backend = Backend::named("x").await;
    router.sources.set_addrs("web", &[backend.addr]);
    let mismatch = (good.0.clone(), wrong.1.clone());
    router
        .serve(&[
            with(&mismatch, http_route(1, "bad.x", "web")),
            with(&("no pem".to_owned(), "none".to_owned()), http_route(2, "worse.x", "web")),
            with(&good, http_route(3, "good.x", "web")),
        ])
        .await;
    router.backends(1).await;
    assert_eq!(ask(&router, "good.x", &good.0).await, Ok(200));
    assert_eq!(ask(&router, "bad.x", &cluster.0).await, Ok(200), "the cluster's pair serves it");
    assert_eq!(ask(&router, "worse.x", &cluster.0).await, Ok(200));
    assert_eq!(get_host(router.http(), "bad.x", "/").await.status, 200);
    let problems = router.detail().await["problems"].to_string();
    assert!(problems.contains("tls: private key does not match public key"), "{problems}");
    assert!(problems.contains("failed to find any PEM data in certificate input"), "{problems}");
    assert!(!problems.contains("BEGIN"), "no key material: {problems}");
}

#[tokio::test]
async fn an_unusable_default_certificate_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path().to_owned());
    let (cert, key) = ("x".to_owned(), PrivateKeyPem::new("y"));
    config.default_certificate = Some(KeyPairPem { cert, key });
    let sources = Arc::new(Sources::default());
    let deps = router::Deps::new(sources.clone(), sources);
    let tasks = kit_tasks::Tasks::root("test");
    let error = router::start(config, deps, &tasks).await.unwrap_err();
    assert!(error.to_string().contains("TLSCERT"), "{error}");
}

#[tokio::test]
async fn http2_requests_become_http1_for_the_backend() {
    let own = pair(&["h.x"]);
    let router = Router::start().await;
    let backend = Backend::answering(|head, body| {
        ok(&format!("{}\n{}", head.text, String::from_utf8_lossy(body)))
    })
    .await;
    router.sources.set_addrs("web", &[backend.addr]);
    router.serve(&[with(&own, http_route(1, "h.x", "web"))]).await;
    router.backends(1).await;
    let stream = handshake(router.https(), "h.x", &own.0, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    router.tasks.spawn_until_stop("h2", async move { drop(connection.await) });
    let port = router.https().port();
    for round in 0..3 {
        let request = http::Request::post("https://h.x/a%2Fb?q=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(Full::new(Bytes::from("hello")))
            .unwrap();
        let response = soon("a response", sender.send_request(request)).await.unwrap();
        assert_eq!(response.status(), 200, "round {round}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let (head, sent) = text.rsplit_once('\n').unwrap();
        let head = Head { text: head.to_owned() };
        assert_eq!((head.first_line(), sent), ("POST /a%2Fb?q=1 HTTP/1.1", "hello"));
        assert_eq!(head.header("host").unwrap(), "h.x");
        assert_eq!(head.header("cookie").unwrap(), "a=1; b=2");
        assert_eq!(head.header("x-forwarded-proto").unwrap(), "https");
        assert_eq!(head.header("x-forwarded-port").unwrap(), port.to_string());
    }
}
