//! Which backend gets a request, what happens when it cannot be reached, and that changes lose none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use router::Instances;
use router_api::Route;
use tokio::sync::watch;

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_backend_that_cannot_be_dialled_costs_nobody_a_request() {
    let router = Router::start().await;
    let backend = Backend::answering(|_, body| ok(&String::from_utf8_lossy(body))).await;
    let (dead, _socket) = dead_addr();
    router.route_to(http_route(1, "h", "web"), &[dead, backend.addr]).await;
    let mut connection = Connection::open(router.http()).await;
    for _ in 0..20 {
        let answer = connection
            .ask(&format!("{}Content-Length: 4\r\n\r\nbody", "POST / HTTP/1.1\r\nHost: h\r\n"))
            .await;
        assert_eq!((answer.status, answer.text()), (200, "body"));
        assert_eq!(connection.ask(GET).await.status, 200);
    }
}

#[tokio::test]
async fn only_dead_backends_are_unavailable() {
    let router = Router::start().await;
    let dead: Vec<_> = (0..6).map(|_| dead_addr()).collect();
    let addrs: Vec<_> = dead.iter().map(|(addr, _)| *addr).collect();
    router.route_to(http_route(1, "h", "web"), &addrs).await;
    let answer = get_host(router.http(), "h", "/").await;
    assert_eq!((answer.status, answer.text()), (503, "Service Unavailable\n"));
}

#[tokio::test]
async fn a_backend_that_accepts_and_closes_is_the_only_one_hit() {
    let router = Router::start().await;
    let closing = [
        Backend::script(|mut connection| async move { drop(connection.read_request().await) })
            .await,
        Backend::script(|mut connection| async move { drop(connection.read_request().await) })
            .await,
    ];
    let addrs: Vec<_> = closing.iter().map(|backend| backend.addr).collect();
    router.route_to(http_route(1, "h", "web"), &addrs).await;
    for request in [GET, "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"] {
        let before: usize = closing.iter().map(Backend::connections).sum();
        let mut connection = Connection::open(router.http()).await;
        let answer = connection.ask(request).await;
        assert_eq!((answer.status, answer.text()), (503, "Service Unavailable\n"), "{request}");
        let hits: usize = closing.iter().map(Backend::connections).sum();
        assert_eq!(hits - before, 1, "{request}");
    }
}

#[tokio::test]
async fn the_busy_backend_gets_none_of_the_next_requests() {
    let router = Router::start().await;
    let (free, wait) = watch::channel(false);
    let busy = Backend::script(move |mut connection| {
        let mut wait = wait.clone();
        async move {
            while connection.read_request().await.is_some() {
                drop(wait.wait_for(|free| *free).await);
                drop(connection.write(ok("busy").as_bytes()).await);
            }
        }
    })
    .await;
    router.route_to(http_route(1, "h", "web"), &[busy.addr]).await;
    let mut blocked = Vec::new();
    for _ in 0..10 {
        let mut connection = Connection::open(router.http()).await;
        connection.write(GET.as_bytes()).await.unwrap();
        blocked.push(connection);
    }
    eventually("ten requests to block", || async { busy.connections() == 10 }).await;
    let idle = Backend::named("idle").await;
    router.sources.set_addrs("web", &[busy.addr, idle.addr]);
    router.backends(2).await;
    for _ in 0..10 {
        assert_eq!(get_host(router.http(), "h", "/").await.text(), "idle");
    }
    free.send_replace(true);
    for mut connection in blocked {
        assert_eq!(connection.answer().await.text(), "busy");
    }
}

#[tokio::test]
async fn a_leader_route_follows_the_leader() {
    let router = Router::start().await;
    let (a, b) = (Backend::named("a").await, Backend::named("b").await);
    let leading = |leader: Option<&Backend>| Instances {
        backends: vec![instance(a.addr, ""), instance(b.addr, "")],
        leader: leader.map(|leader| leader.addr.to_string()),
    };
    router.sources.set("web", leading(Some(&a)));
    router.serve(&[Route { leader: true, ..http_route(1, "h", "web") }]).await;
    router.backends(2).await;
    for _ in 0..5 {
        assert_eq!(get_host(router.http(), "h", "/").await.text(), "a");
    }
    router.sources.set("web", leading(Some(&b)));
    eventually("the new leader", || async {
        get_host(router.http(), "h", "/").await.text() == "b"
    })
    .await;
    router.sources.set("web", leading(None));
    eventually("nobody to lead", || async {
        get_host(router.http(), "h", "/").await.status == 503
    })
    .await;
}

#[tokio::test]
async fn a_sticky_client_stays_and_moves_only_when_it_must() {
    let router = Router::start().await;
    let backends: Vec<Backend> = [
        Backend::named("0").await,
        Backend::named("1").await,
        Backend::named("2").await,
        Backend::named("3").await,
    ]
    .into();
    let addrs: Vec<_> = backends.iter().map(|backend| backend.addr).collect();
    router.route_to(Route { sticky: true, ..http_route(1, "h", "web") }, &addrs).await;
    let ask = async |cookie: &str| {
        let mut connection = Connection::open(router.http()).await;
        connection.ask(&format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\n\r\n")).await
    };
    let first = ask("a=b; _backend=forged").await;
    let set = first.header("set-cookie").unwrap();
    let cookie = set.strip_suffix("; Path=/").unwrap();
    assert!(cookie.starts_with("_backend="), "{set}");
    let home: usize = first.text().parse().unwrap();
    for _ in 0..20 {
        let again = ask(&format!("x=y; {cookie}")).await;
        assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None));
    }
    let left: Vec<_> = addrs.iter().copied().filter(|addr| *addr != addrs[home]).collect();
    router.sources.set_addrs("web", &left);
    router.backends(3).await;
    let moved = ask(cookie).await;
    assert_ne!(moved.text(), first.text());
    assert!(moved.header("set-cookie").unwrap().starts_with("_backend="));
}

#[tokio::test]
async fn a_thousand_requests_meet_changing_routes_and_backends_without_a_failure() {
    let router = Router::start().await;
    let pool: Vec<Backend> =
        [Backend::named("v").await, Backend::named("v").await, Backend::named("v").await].into();
    let addrs: Vec<_> = pool.iter().map(|backend| backend.addr).collect();
    router.route_to(http_route(1, "h", "web"), &addrs).await;
    let done = Arc::new(AtomicBool::new(false));
    let changes = async {
        let mut round = 0_u32;
        while !done.load(Ordering::SeqCst) {
            round += 1;
            let mut routes = vec![http_route(1, "h", "web")];
            routes[0].sticky = round.is_multiple_of(2);
            routes.extend((2..round % 20).map(|n| http_route(n, &format!("{n}.other"), "other")));
            router.sources.set_routes(&routes);
            let skipped = round as usize % 3;
            let listed: Vec<_> = addrs
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != skipped)
                .map(|(_, a)| *a)
                .collect();
            router.sources.set_addrs("web", &listed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let requests = async {
        let clients = (0..10).map(|_| async {
            let mut connection = Connection::open(router.http()).await;
            for _ in 0..100 {
                let answer = connection.ask(GET).await;
                assert_eq!((answer.status, answer.text()), (200, "v"));
            }
        });
        futures_util::future::join_all(clients).await;
        done.store(true, Ordering::SeqCst);
    };
    tokio::join!(changes, requests);
}

#[tokio::test]
async fn requests_spread_over_all_backends() {
    let router = Router::start().await;
    let pool = [Backend::named("0").await, Backend::named("1").await, Backend::named("2").await];
    let addrs: Vec<_> = pool.iter().map(|backend| backend.addr).collect();
    router.route_to(http_route(1, "h", "web"), &addrs).await;
    let mut hits = BTreeMap::new();
    let mut connection = Connection::open(router.http()).await;
    for _ in 0..300 {
        *hits.entry(connection.ask(GET).await.text().to_owned()).or_insert(0) += 1;
    }
    assert!(hits.len() == 3 && hits.values().all(|hits| *hits > 50), "{hits:?}");
}
