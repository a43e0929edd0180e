//! Starting from disk with nobody else there, and stopping without losing a request.

use std::sync::Arc;
use std::time::Duration;

use kit_tasks::Tasks;
use router::Deps;
use router_api::Route;

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_router_alone_in_the_world_serves_what_it_served_before() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::named("still here").await;
    let (cert, key) = crate::tls::pair(&["h"]);
    let first = Tasks::root("first");
    let sources = Arc::new(Sources::default());
    let deps = Deps::new(sources.clone(), sources.clone());
    let running = router::start(config(dir.path().to_owned()), deps, &first).await.unwrap();
    sources.set_addrs("web", &[backend.addr]);
    let certificate = Some(router_api::Certificate::new(&cert, &key));
    sources.set_routes(&[Route { certificate, ..http_route(1, "h", "web") }]);
    eventually("the first router to serve", || async {
        get_host(running.addrs[0], "h", "/").await.status == 200
    })
    .await;
    soon("the stop", running.stop(DEADLINE * 10)).await;

    let (second, silent) = (Tasks::root("second"), Arc::new(Sources::default()));
    let deps = Deps::new(silent.clone(), silent.clone());
    let running = router::start(config(dir.path().to_owned()), deps, &second).await.unwrap();
    let answer = get_host(running.addrs[0], "h", "/").await;
    assert_eq!((answer.status, answer.text()), (200, "still here"), "the very first request");
    let mut secure = crate::tls::connect(running.addrs[1], "h", &cert).await.unwrap();
    assert_eq!(secure.ask(GET).await.text(), "still here");
    assert_eq!(get_host(running.addrs[0], "unknown", "/").await.status, 404);
    let answer = get_host(running.addrs[2], "x", "/.well-known/status").await;
    assert!(answer.text().contains("\"routes_from\": \"disk\""), "{}", answer.text());
    // When the controller is back its word counts.
    silent.set_routes(&[]);
    eventually("the route to go", || async {
        get_host(running.addrs[0], "h", "/").await.status == 404
    })
    .await;
    soon("the stop", running.stop(DEADLINE * 10)).await;
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight_and_takes_nothing_new() {
    let router = Router::start().await;
    let (free, wait) = tokio::sync::watch::channel(false);
    let backend = Backend::script(move |mut connection| {
        let mut wait = wait.clone();
        async move {
            connection.read_request().await;
            drop(wait.wait_for(|free| *free).await);
            drop(connection.write(ok("finished").as_bytes()).await);
        }
    })
    .await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let mut busy = Connection::open(router.http()).await;
    busy.write(GET.as_bytes()).await.unwrap();
    let mut idle = Connection::open(router.http()).await;
    eventually("the request to arrive", || async { backend.connections() == 1 }).await;
    let mut unused = Connection::open(router.http()).await;
    let addr = router.http();
    let stop = router.running.stop(DEADLINE);
    let watch = async {
        assert_eq!(idle.rest().await, b"", "an idle connection closes");
        assert_eq!(unused.rest().await, b"", "and one that was never used");
        eventually("the port to close", || async {
            tokio::net::TcpStream::connect(addr).await.is_err()
        })
        .await;
        free.send_replace(true);
        let answer = busy.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "finished"));
    };
    tokio::join!(stop, watch);
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_its_grace() {
    let router = Router::start().await;
    let backend = Backend::script(|mut connection| async move {
        connection.read_request().await;
        std::future::pending::<()>().await;
    })
    .await;
    router.route_to(http_route(1, "h", "web"), &[backend.addr]).await;
    let mut busy = Connection::open(router.http()).await;
    busy.write(GET.as_bytes()).await.unwrap();
    eventually("the request to arrive", || async { backend.connections() == 1 }).await;
    router.running.stop(Duration::from_millis(10)).await;
    assert_eq!(busy.rest().await, b"");
}
