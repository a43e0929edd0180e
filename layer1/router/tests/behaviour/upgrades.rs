//! Websockets and other upgrades.

use futures_util::{SinkExt as _, StreamExt as _};
use router_api::Route;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::*;

const UPGRADE: &str =
    "GET /ws?x=1 HTTP/1.1\r\nHost: h\r\nConnection: upGrade, x\r\nUpgrade: Pinger-1\r\n\r\n";

/// Switches and then answers each `ping!` with `pong!`, after a `hello` of its own.
async fn pinger() -> Backend {
    Backend::script(|mut connection| async move {
        while let Some((head, _)) = connection.read_request().await {
            if head.header("upgrade").is_none() {
                drop(connection.write(ok(&head.text).as_bytes()).await);
                continue;
            }
            let name = head.header("upgrade").unwrap();
            let connection_header = head.header("connection").unwrap();
            assert!(connection_header.eq_ignore_ascii_case("upgrade, x"), "{connection_header}");
            let switch = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {name}\r\n\r\nhello"
            );
            drop(connection.write(switch.as_bytes()).await);
            while connection.bytes(5).await == b"ping!" {
                drop(connection.write(b"pong!").await);
            }
            drop(connection.write(b"bye").await);
            return;
        }
    })
    .await
}

#[tokio::test]
async fn bytes_flow_both_ways_after_the_switch() {
    let router = Router::start().await;
    let backend = pinger().await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let mut connection = Connection::open(router.http()).await;
    // Also on a connection that served a request before.
    let before = connection.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(before.status, 200);
    let switched = connection.ask(UPGRADE).await;
    assert_eq!((switched.status, switched.header("upgrade").unwrap().as_str()), (101, "Pinger-1"));
    assert!(switched.header("connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert_eq!(connection.bytes(5).await, b"hello");
    for _ in 0..3 {
        connection.write(b"ping!").await.unwrap();
        assert_eq!(connection.bytes(5).await, b"pong!");
    }
    // The end of one direction is passed on; the other stays open.
    connection.shutdown().await;
    assert_eq!(connection.rest().await, b"bye");
}

#[tokio::test]
async fn a_websocket_echoes() {
    let router = Router::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    router.tasks.spawn_until_stop("echo", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { continue };
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() || socket.send(message).await.is_err() {
                    break;
                }
            }
        }
    });
    router.route_to(http_route(1, "h", "web"), &[addr]).await;
    let stream = TcpStream::connect(router.http()).await.unwrap();
    let (mut socket, _) =
        soon("the switch", tokio_tungstenite::client_async("ws://h/", stream)).await.unwrap();
    for text in ["one", "two", &"long".repeat(20_000)] {
        socket.send(Message::text(text)).await.unwrap();
        let echo = soon("the echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(echo, Message::text(text));
    }
}

#[tokio::test]
async fn a_backend_that_does_not_switch_is_heard_and_the_connection_closes() {
    let router = Router::start().await;
    let backend = Backend::answering(|_, _| {
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nX-Why: y\r\n\r\nno".to_owned()
    })
    .await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let mut connection = Connection::open(router.http()).await;
    let answer = connection.ask(UPGRADE).await;
    assert_eq!((answer.status, answer.text()), (403, "no"));
    assert_eq!(answer.header("connection").unwrap(), "close");
    assert_eq!(answer.header("x-why").unwrap(), "y");
    assert_eq!(connection.rest().await, b"");
}

#[tokio::test]
async fn dead_backends_are_passed_over() {
    let router = Router::start().await;
    let backend = pinger().await;
    let dead: Vec<_> = (0..5).map(|_| dead_addr()).collect();
    let mut addrs: Vec<_> = dead.iter().map(|(addr, _)| *addr).collect();
    addrs.push(backend.addr);
    let route = Route { sticky: true, ..http_route(1, "h", "web") };
    router.route_to(route, &addrs).await;
    for _ in 0..5 {
        let mut connection = Connection::open(router.http()).await;
        let answer = connection.ask(UPGRADE).await;
        assert_eq!(answer.status, 101);
        assert!(answer.header("set-cookie").unwrap().starts_with("_backend="));
    }
    addrs.pop();
    router.sources.set_addrs("web", &addrs);
    router.backends(addrs.len()).await;
    let mut connection = Connection::open(router.http()).await;
    let answer = connection.ask(UPGRADE).await;
    assert_eq!((answer.status, answer.text()), (503, "Service Unavailable\n"));
    assert_eq!(answer.header("connection").unwrap(), "close");
}
