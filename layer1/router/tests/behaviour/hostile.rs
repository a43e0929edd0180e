//! Clients that are slow, too large, or try to make router and backend disagree about where a request
//! ends.

use std::time::Duration;

use crate::support::*;

/// What a backend saw: one line per request.
async fn witness() -> Backend {
    Backend::answering(|head, body| ok(&format!("{} {}", head.first_line(), body.len()))).await
}

#[tokio::test]
async fn contradicting_lengths_never_smuggle_a_request() {
    let router = Router::start().await;
    let backend = witness().await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    for (name, framing, body) in [
        ("two lengths", "Content-Length: 0\r\nContent-Length: 38\r\n", smuggled.to_owned()),
        ("a list of lengths", "Content-Length: 0, 38\r\n", smuggled.to_owned()),
        ("a signed length", "Content-Length: +38\r\n", smuggled.to_owned()),
        ("chunked is not last", "Transfer-Encoding: chunked, x\r\n", smuggled.to_owned()),
        ("unknown coding", "Transfer-Encoding: xchunked\r\n", smuggled.to_owned()),
        ("coding with a vertical tab", "Transfer-Encoding: \u{b}chunked\r\n", smuggled.to_owned()),
        ("blank before the colon", "Transfer-Encoding : chunked\r\n", smuggled.to_owned()),
        ("folded header", "X: y\r\n Transfer-Encoding: chunked\r\n", smuggled.to_owned()),
    ] {
        let mut connection = Connection::open(router.http()).await;
        let request = format!("POST /first HTTP/1.1\r\nHost: h\r\n{framing}\r\n{body}");
        connection.write(request.as_bytes()).await.unwrap();
        let all = String::from_utf8_lossy(&connection.rest().await).into_owned();
        assert!(all.starts_with("HTTP/1.1 400 "), "{name}: {all}");
        assert_eq!(all.matches("HTTP/1.1").count(), 1, "{name}: {all}");
    }
    assert_eq!(backend.connections(), 0, "the backend saw nothing of it");
}

#[tokio::test]
async fn of_a_length_beside_chunks_only_the_chunks_count_and_nothing_follows() {
    let router = Router::start().await;
    let backend = witness().await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    for framing in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    ] {
        let mut connection = Connection::open(router.http()).await;
        let request = format!(
            "POST /first HTTP/1.1\r\nHost: h\r\n{framing}\r\n2\r\nab\r\n0\r\n\r\n{smuggled}"
        );
        connection.write(request.as_bytes()).await.unwrap();
        let all = String::from_utf8_lossy(&connection.rest().await).into_owned();
        assert!(all.contains("POST /first HTTP/1.1 2"), "two bytes of body arrived: {all}");
        assert!(!all.contains("smuggled"), "{all}");
    }
}

#[tokio::test]
async fn odd_hosts_and_methods_are_refused() {
    let router = Router::start().await;
    let backend = witness().await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n",
        "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let mut connection = Connection::open(router.http()).await;
        connection.write(request.as_bytes()).await.unwrap();
        let all = String::from_utf8_lossy(&connection.rest().await).into_owned();
        assert!(all.starts_with("HTTP/1.1 400 "), "{request}: {all}");
    }
    // The target's host counts, for the route and for the backend.
    let mut connection = Connection::open(router.http()).await;
    let answer = connection.ask("GET http://h/ HTTP/1.1\r\nHost: other\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let router = Router::start().await;
    let backend = witness().await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let long = "x".repeat(70_000);
    let many = "A: b\r\n".repeat(101);
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n"), "431"),
        (format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), "4"),
    ] {
        let mut connection = Connection::open(router.http()).await;
        // The router may close before it read everything.
        drop(connection.write(request.as_bytes()).await);
        let all = String::from_utf8_lossy(&connection.rest().await).into_owned();
        assert!(all.starts_with(&format!("HTTP/1.1 {status}")), "{all}");
    }
    let large = "x".repeat(30_000);
    let mut connection = Connection::open(router.http()).await;
    let answer = connection.ask(&format!("GET / HTTP/1.1\r\nHost: h\r\nX: {large}\r\n\r\n")).await;
    assert_eq!(answer.status, 200, "large cookies are ordinary");
}

#[tokio::test]
async fn slow_and_idle_clients_are_disconnected_and_busy_ones_are_not() {
    let router = Router::start_with(|config| {
        config.limits.request_head = Duration::from_secs(1);
        config.limits.idle_client = Duration::from_secs(2);
        config.proxy_protocol = true;
    })
    .await;
    let (free, wait) = tokio::sync::watch::channel(false);
    let backend = Backend::script(move |mut connection| {
        let mut wait = wait.clone();
        async move {
            while let Some((head, _)) = connection.read_request().await {
                if head.first_line().contains("/wait") {
                    drop(wait.wait_for(|free| *free).await);
                }
                drop(connection.write(ok("x").as_bytes()).await);
            }
        }
    })
    .await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let mut busy = Connection::open(router.http()).await;
    busy.write(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut silent = Connection::open(router.http()).await;
    let mut proxied = Connection::open(router.http()).await;
    proxied.write(b"PROXY TCP4 1.").await.unwrap();
    let mut handshake = Connection::open(router.https()).await;
    let mut half = Connection::open(router.http()).await;
    half.write(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    let mut second = Connection::open(router.http()).await;
    assert_eq!(second.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.status, 200);
    second.write(b"GET / HT").await.unwrap();
    let mut idle = Connection::open(router.http()).await;
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.status, 200);
    for connection in [&mut silent, &mut proxied, &mut handshake, &mut half, &mut second, &mut idle]
    {
        assert_eq!(connection.rest().await, b"", "closed without an answer");
    }
    free.send_replace(true);
    assert_eq!(busy.answer().await.status, 200);
}

#[tokio::test]
async fn a_proxy_line_gives_the_client_its_address() {
    let router = Router::start_with(|config| config.proxy_protocol = true).await;
    let backend = Backend::echo().await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for (line, want) in [
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n", "1.2.3.4"),
        ("PROXY TCP6 fe80::1 ::2 1000 80\r\n", "fe80::1"),
        ("", "127.0.0.1"),
    ] {
        let mut connection = Connection::open(router.http()).await;
        let answer = connection.ask(&format!("{line}{request}")).await;
        let head = Head { text: answer.text().to_owned() };
        assert_eq!(head.header("x-forwarded-for").unwrap(), want);
    }
    let mut connection = Connection::open(router.http()).await;
    connection.write(format!("PROXY TCP4 x\r\n{request}").as_bytes()).await.unwrap();
    assert_eq!(connection.rest().await, b"");
}
