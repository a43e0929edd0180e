//! Matching, headers, bodies, the router's own answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use router_api::Route;
use socket2::{SockFilter, SockRef};

use crate::support::*;

/// The instruction of a socket filter (bpf(4)) that takes so many bytes of a packet.
const BPF_RETURN: u16 = 0x06;

#[tokio::test]
async fn requests_reach_the_backend_of_their_route() {
    let router = Router::start().await;
    let (a, b, c) =
        (Backend::named("a").await, Backend::named("b").await, Backend::named("c").await);
    for (service, backend) in [("a", &a), ("b", &b), ("c", &c)] {
        router.sources.set_addrs(service, &[backend.addr]);
    }
    let below =
        |number, path: &str| Route { path: path.to_owned(), ..http_route(number, "a.x", "b") };
    router
        .serve(&[
            below(1, "/2/"),
            http_route(2, "a.x", "a"),
            http_route(3, "*.x", "c"),
            http_route(4, "UPPER.y", "b"),
            Route { path: "bad".to_owned(), ..http_route(5, "bad.x", "a") },
            Route { path: "/lost/".to_owned(), ..http_route(6, "lost.y", "a") },
        ])
        .await;
    router.backends(3).await;
    for (host, path, want) in [
        ("a.x", "/", "a"),
        ("A.X:8080", "/any?q", "a"),
        ("a.x", "/2", "b"),
        ("a.x", "/2/x", "b"),
        ("a.x", "/23", "a"),
        ("z.x", "/2/", "c"),
        ("x", "/", "c"),
        ("upper.Y", "/", "b"),
    ] {
        let answer = get_host(router.http(), host, path).await;
        assert_eq!((answer.status, answer.text()), (200, want), "{host}{path}");
    }
    let problems = router.detail().await["problems"].to_string();
    assert!(problems.contains("begin with a slash") && problems.contains("lost.y"), "{problems}");
}

#[tokio::test]
async fn the_routers_own_answers_are_exact() {
    let router = Router::start().await;
    router.serve(&[http_route(1, "empty", "nobody")]).await;
    let missing = get_host(router.http(), "no.route", "/").await;
    assert_eq!((missing.status, missing.text()), (404, "Not Found\n"));
    assert_eq!(missing.header("content-type").unwrap(), "text/plain; charset=utf-8");
    assert_eq!(missing.header("content-length").unwrap(), "10");
    let none = get_host(router.http(), "empty", "/").await;
    assert_eq!((none.status, none.text()), (503, "Service Unavailable\n"));
    assert_eq!(none.header("content-type").unwrap(), "text/plain; charset=utf-8");
    assert_eq!(none.header("content-length").unwrap(), "20");
    let mut connection = Connection::open(router.http()).await;
    let answer = connection.ask("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(
        (answer.status, answer.text()),
        (400, "400 Bad Request: missing required Host header")
    );
    let mut connection = Connection::open(router.http()).await;
    assert_eq!(connection.ask("GET / HTTP/1.0\r\n\r\n").await.status, 404);
}

#[tokio::test]
async fn backends_learn_about_the_client_and_nothing_else_changes() {
    let router = Router::start().await;
    let backend = Backend::echo().await;
    router.route_to(http_route(1, "x.foo.bar", "web"), &[backend.addr]).await;
    let mut connection = Connection::open(router.http()).await;
    let port = router.http().port();

    let plain = connection.ask("GET /a%2Fb/(x)?q=1&r HTTP/1.1\r\nHost: X.foo.bar:80\r\n\r\n").await;
    let head = echoed(&plain);
    assert_eq!(head.first_line(), "GET /a%2Fb/(x)?q=1&r HTTP/1.1");
    assert_eq!(head.header("host").unwrap(), "X.foo.bar:80");
    assert_eq!(head.header("x-forwarded-for").unwrap(), "127.0.0.1");
    assert_eq!(head.header("x-forwarded-proto").unwrap(), "http");
    assert_eq!(head.header("x-forwarded-port").unwrap(), port.to_string());
    assert_eq!(head.header("x-request-start").unwrap().len(), 13);
    assert_eq!(head.header("x-request-id").unwrap().len(), 36);
    assert_eq!(head.text.lines().count(), 7, "nothing more: {}", head.text);

    let request = "GET //foo/bar HTTP/1.1\r\nHost: x.foo.bar\r\nX-Forwarded-For: 9.9.9.9\r\n\
        X-Forwarded-For: 8.8.8.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n\
        X-Request-Start: 1\r\nX-Request-Id: aaaaaaaaaaaaaaaaaaaa\r\nTe: trailers\r\n\
        Connection: keep-alive, Foo\r\nFoo: 1\r\nProxy-Authorization: p\r\n\r\n";
    let head = echoed(&connection.ask(request).await);
    assert_eq!(head.first_line(), "GET //foo/bar HTTP/1.1");
    assert_eq!(head.header("x-forwarded-for").unwrap(), "9.9.9.9, 8.8.8.8, 127.0.0.1");
    assert_eq!(head.header("x-forwarded-proto").unwrap(), "https, http");
    assert_eq!(head.header("x-forwarded-port").unwrap(), format!("1, {port}"));
    assert_eq!(head.header("x-request-start").unwrap().len(), 13);
    assert_eq!(head.header("x-request-id").unwrap(), "aaaaaaaaaaaaaaaaaaaa");
    assert_eq!(head.header("proxy-authorization").unwrap(), "p");
    for gone in ["te", "connection", "foo"] {
        assert_eq!(head.header(gone), None, "{gone}");
    }

    let absolute = "GET http://x.foo.bar//a%2Fb?q HTTP/1.1\r\nHost: x.foo.bar\r\n\r\n";
    let head = echoed(&connection.ask(absolute).await);
    assert_eq!(head.first_line(), "GET http://x.foo.bar//a%2Fb?q HTTP/1.1");
}

/// The head an echoing backend got.
fn echoed(answer: &Answer) -> Head {
    assert_eq!(answer.status, 200, "{answer:?}");
    Head { text: answer.text().to_owned() }
}

#[tokio::test]
async fn responses_lose_what_belongs_to_one_connection() {
    let router = Router::start().await;
    let backend = Backend::answering(|_, _| {
        "HTTP/1.1 201 Made\r\nConnection: keep-alive, Foo\r\nFoo: 1\r\nUpgrade: x\r\nTe: y\r\n\
         Transfer-Encoding: chunked\r\nX-Kept: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            .to_owned()
    })
    .await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let mut connection = Connection::open(router.http()).await;
    let answer = connection.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!((answer.status, answer.text()), (201, "abc"));
    for gone in ["connection", "foo", "upgrade", "te"] {
        assert_eq!(answer.header(gone), None, "{gone}: {:?}", answer.head);
    }
    assert_eq!(answer.header("x-kept").unwrap(), "1");
    assert!(answer.header("date").is_some());
    // A client of HTTP/1.0 gets no chunks.
    let mut old = Connection::open(router.http()).await;
    let answer = old.ask("GET / HTTP/1.0\r\nHost: h\r\n\r\n").await;
    assert_eq!((answer.text(), answer.header("transfer-encoding")), ("abc", None));
}

#[tokio::test]
async fn a_connection_serves_many_hosts_and_closes_when_asked() {
    let router = Router::start().await;
    let (a, b) = (Backend::echo().await, Backend::named("b").await);
    router.sources.set_addrs("a", &[a.addr]);
    router.sources.set_addrs("b", &[b.addr]);
    router.serve(&[http_route(1, "a", "a"), http_route(2, "b", "b")]).await;
    router.backends(2).await;
    let mut connection = Connection::open(router.http()).await;
    for _ in 0..3 {
        assert_eq!(connection.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
        assert_eq!(connection.ask("GET / HTTP/1.1\r\nHost: b\r\n\r\n").await.text(), "b");
    }
    let last = connection.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(last.header("connection").unwrap(), "close");
    assert_eq!(echoed(&last).header("connection"), None, "the backend's connection stays");
    assert_eq!(connection.rest().await, b"");
    assert_eq!((a.connections(), b.connections()), (1, 1), "kept connections were used");
}

#[tokio::test]
async fn bodies_of_all_framings_arrive_whole() {
    let router = Router::start().await;
    let backend = Backend::answering(|head, body| {
        ok(&format!("{} {}", head.header("content-length").is_some(), body.len()))
    })
    .await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let mut connection = Connection::open(router.http()).await;
    let sized = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n{}",
        "x".repeat(100_000)
    );
    assert_eq!(connection.ask(&sized).await.text(), "true 100000");
    let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n2\r\nxy\r\n0\r\n\r\n";
    assert_eq!(connection.ask(chunked).await.text(), "false 7");
    let expecting =
        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc";
    assert_eq!(connection.ask(expecting).await.text(), "true 3");
    assert_eq!(
        connection.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await.text(),
        "true 0"
    );
}

#[tokio::test]
async fn heads_and_first_bytes_do_not_wait_for_the_rest() {
    let router = Router::start().await;
    let (go, wait) = tokio::sync::watch::channel(false);
    let backend = Backend::script(move |mut connection| {
        let mut wait = wait.clone();
        async move {
            connection.read_request().await;
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
            connection.write(head).await.unwrap();
            drop(wait.wait_for(|go| *go).await);
            connection.write(b"ab").await.unwrap();
            std::future::pending::<()>().await;
        }
    })
    .await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let mut connection = Connection::open(router.http()).await;
    connection.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let head = soon("the head", connection.read_head()).await.unwrap();
    assert_eq!(head.header("content-length").unwrap(), "4");
    go.send_replace(true);
    assert_eq!(connection.bytes(2).await, b"ab");
}

#[tokio::test]
async fn a_backend_sees_that_its_client_has_gone() {
    let router = Router::start().await;
    let gone = Arc::new(AtomicUsize::new(0));
    let seen = gone.clone();
    let backend = Backend::script(move |mut connection| {
        let seen = seen.clone();
        async move {
            connection.read_request().await;
            connection.rest().await;
            seen.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let mut connection = Connection::open(router.http()).await;
    connection.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    eventually("the request to arrive", || async { backend.connections() == 1 }).await;
    drop(connection);
    eventually("the backend to notice", || async { gone.load(Ordering::SeqCst) == 1 }).await;
}

#[tokio::test]
async fn a_dead_kept_connection_is_no_error() {
    let router = Router::start().await;
    // Answers one request without a word about closing, then closes.
    let backend = Backend::script(|mut connection| async move {
        connection.read_request().await;
        drop(connection.write(ok("once").as_bytes()).await);
    })
    .await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let mut connection = Connection::open(router.http()).await;
    for request in 0..50 {
        let answer = connection.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!((answer.status, answer.text()), (200, "once"), "request {request}");
    }
    assert_eq!(backend.connections(), 50);
}

#[tokio::test]
async fn keep_alives_can_be_turned_off_and_on() {
    let router = Router::start().await;
    let backend = Backend::named("x").await;
    let route = http_route(1, "h", "web");
    router.route_to(Route { disable_keep_alives: true, ..route.clone() }, &[backend.addr]).await;
    let mut connection = Connection::open(router.http()).await;
    for count in 1..=3 {
        connection.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(backend.connections(), count);
    }
    router.sources.set_routes(&[route]);
    eventually("a connection to be kept", || async {
        let before = backend.connections();
        for _ in 0..2 {
            assert_eq!(get_host(router.http(), "h", "/").await.status, 200);
        }
        // Two workers, each with a connection of its own.
        backend.connections() == before
    })
    .await;
}

#[tokio::test]
async fn an_additional_port_has_routes_of_its_own() {
    let router = Router::start_with(|config| config.http.push(config.http[0])).await;
    let (main, extra) = (Backend::named("main").await, Backend::named("extra").await);
    let port = router.running.addrs[1].port();
    router.sources.set_addrs("main", &[main.addr]);
    router.sources.set_addrs("extra", &[extra.addr]);
    let on_port = Route { port: port.into(), ..http_route(2, "h", "extra") };
    router.serve(&[http_route(1, "h", "main"), on_port, http_route(3, "other", "main")]).await;
    router.backends(2).await;
    assert_eq!(get_host(router.running.addrs[0], "h", "/").await.text(), "main");
    assert_eq!(get_host(router.running.addrs[1], "h", "/").await.text(), "extra");
    assert_eq!(get_host(router.running.addrs[1], "other", "/").await.status, 404);
}

#[tokio::test]
async fn an_operators_page_is_shown_for_503() {
    let pages = Backend::named("<h1>Back soon</h1>").await;
    let url = format!("http://{}/page", pages.addr);
    let router = Router::start_with(|config| config.error_page_url = Some(url)).await;
    router.serve(&[http_route(1, "h", "nobody")]).await;
    eventually("the page", || async {
        let answer = get_host(router.http(), "h", "/").await;
        assert_eq!(answer.status, 503);
        answer.text() == "<h1>Back soon</h1>"
            && answer.header("content-type").as_deref() == Some("text/html; charset=utf-8")
    })
    .await;
}

#[tokio::test]
async fn a_request_on_a_kept_connection_to_a_lost_host_is_given_up() {
    let silence = std::time::Duration::from_secs(1);
    let router = Router::start_with(|config| config.limits.backend_silence = silence).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lost = listener.local_addr().unwrap();
    router.route_to(http_route(1, "h", "web"), &[lost]).await;
    let mut client = Connection::open(router.http()).await;
    client.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let stream = stream.into_std().unwrap();
    let socket = stream.try_clone().unwrap();
    let mut backend = Connection::over(tokio::net::TcpStream::from_std(stream).unwrap());
    backend.read_request().await.unwrap();
    backend.write(ok("first").as_bytes()).await.unwrap();
    assert_eq!(client.answer().await.text(), "first");
    // As if the host were gone: nothing that arrives is taken or acknowledged.
    let nothing = [SockFilter::new(BPF_RETURN, 0, 0, 0)];
    SockRef::from(&socket).attach_filter(&nothing).unwrap();
    SockRef::from(&listener).attach_filter(&nothing).unwrap();

    client.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.status, 503);
    drop(backend);
}

#[tokio::test]
async fn a_silent_backend_is_given_up_and_a_slow_upload_is_not() {
    let limit = std::time::Duration::from_secs(1);
    let router = Router::start_with(|config| config.limits.response_head = limit).await;
    let backend = Backend::script(|mut connection| async move {
        while let Some((head, body)) = connection.read_request().await {
            if head.first_line().starts_with("GET /silent") {
                std::future::pending::<()>().await;
            }
            drop(connection.write(ok(&body.len().to_string()).as_bytes()).await);
        }
    })
    .await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    assert_eq!(get_host(router.http(), "h", "/silent").await.status, 503);
    let mut slow = Connection::open(router.http()).await;
    slow.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\n").await.unwrap();
    let mut pace = tokio::time::interval(limit / 10);
    for _ in 0..30 {
        pace.tick().await;
        slow.write(b"x").await.unwrap();
    }
    assert_eq!(slow.answer().await.text(), "30");
}
