//! TCP routes on ports of their own.

use std::net::{Ipv4Addr, SocketAddr};

use router::Instances;
use router_api::Route;
use tokio::net::TcpStream;

use crate::support::*;

/// A port that was free a moment ago, outside of any range.
async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

async fn prefixing(prefix: &'static str) -> Backend {
    Backend::script(move |mut connection| async move {
        let all = connection.rest().await;
        let text = format!("{prefix}{}", String::from_utf8_lossy(&all));
        drop(connection.write(text.as_bytes()).await);
    })
    .await
}

/// Sends, half-closes, reads to the end.
async fn exchange(addr: SocketAddr, text: &str) -> Option<String> {
    let stream = TcpStream::connect(addr).await.ok()?;
    let mut connection = Connection::over(stream);
    connection.write(text.as_bytes()).await.ok()?;
    connection.shutdown().await;
    Some(String::from_utf8_lossy(&connection.rest().await).into_owned())
}

#[tokio::test]
async fn bytes_go_both_ways_and_follow_the_route() {
    let router = Router::start().await;
    let (a, b) = (prefixing("a:").await, prefixing("b:").await);
    let port = free_port().await;
    let addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    router.sources.set_addrs("db", &[a.addr]);
    let route = stored(1, Route::tcp(port, "db"));
    router.sources.set_routes(std::slice::from_ref(&route));
    router.backends(1).await;
    eventually("the port to open", || async {
        exchange(addr, "hello").await.as_deref() == Some("a:hello")
    })
    .await;
    router.sources.set_addrs("db", &[b.addr]);
    eventually("the other backend", || async {
        exchange(addr, "x").await.as_deref() == Some("b:x")
    })
    .await;
    let leading = Instances {
        backends: vec![instance(a.addr, ""), instance(b.addr, "")],
        leader: Some(a.addr.to_string()),
    };
    router.sources.set("db", leading);
    router.sources.set_routes(&[Route { leader: true, updated_at: chrono::Utc::now(), ..route }]);
    eventually("only the leader", || async {
        for _ in 0..8 {
            if exchange(addr, "x").await.as_deref() != Some("a:x") {
                return false;
            }
        }
        true
    })
    .await;
    router.sources.set_routes(&[]);
    eventually("the port to close", || async { TcpStream::connect(addr).await.is_err() }).await;
}

#[tokio::test]
async fn without_a_backend_the_client_is_disconnected() {
    let router = Router::start().await;
    let (dead, _socket) = dead_addr();
    let port = free_port().await;
    let addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    router.sources.set_addrs("db", &[dead]);
    router.sources.set_routes(&[stored(1, Route::tcp(port, "db"))]);
    eventually("the client to be disconnected", || async {
        exchange(addr, "x").await.as_deref() == Some("")
    })
    .await;
}

#[tokio::test]
async fn a_taken_port_is_told_and_taken_over_when_it_is_free() {
    let router = Router::start().await;
    let backend = prefixing("a:").await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap();
    router.sources.set_addrs("db", &[backend.addr]);
    router.sources.set_routes(&[stored(1, Route::tcp(addr.port(), "db"))]);
    eventually("the port to be reported", || async {
        router.detail().await["blocked_tcp_ports"].get(addr.port().to_string()).is_some()
    })
    .await;
    drop(taken);
    eventually("the port to be served", || async {
        exchange(addr, "x").await.as_deref() == Some("a:x")
    })
    .await;
}

#[tokio::test]
async fn reserved_ports_are_kept_from_others_and_refuse_clients() {
    let port = free_port().await;
    let router = Router::start_with(|config| config.reserved_tcp_ports = Some(port..=port)).await;
    let addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    assert!(TcpStream::connect(addr).await.is_err());
    assert!(std::net::TcpListener::bind(addr).is_err(), "another program cannot have it");
    let backend = prefixing("a:").await;
    router.sources.set_addrs("db", &[backend.addr]);
    router.sources.set_routes(&[stored(1, Route::tcp(port, "db"))]);
    eventually("the port to be served", || async {
        exchange(addr, "x").await.as_deref() == Some("a:x")
    })
    .await;
}
