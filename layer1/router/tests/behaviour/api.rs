//! The router's own API: status and events, draining above all.

use kit_http::SseParser;
use router::Instances;
use router_api::{Event, EventKind, Route};

use crate::support::*;

/// A client of `/events`.
struct Listener {
    connection: Connection,
    parser: SseParser,
}

impl Listener {
    async fn open(router: &Router, types: &str) -> Self {
        let mut connection = Connection::open(router.api()).await;
        let request = format!("GET /events?types={types} HTTP/1.1\r\nHost: router-api\r\n\r\n");
        connection.write(request.as_bytes()).await.unwrap();
        let head = soon("the stream's head", connection.read_head()).await.unwrap();
        assert!(head.header("content-type").unwrap().starts_with("text/event-stream"), "{head:?}");
        Self { connection, parser: SseParser::new(1 << 20) }
    }

    async fn next(&mut self) -> Event {
        soon("an event", async {
            loop {
                if let Some(item) = self.parser.next_item().unwrap() {
                    return serde_json::from_str(&item.data).unwrap();
                }
                let chunk = self.connection.chunk().await.expect("the stream goes on");
                self.parser.push(&chunk);
            }
        })
        .await
    }

    async fn expect(&mut self, kind: EventKind, job: &str) {
        let event = self.next().await;
        assert_eq!((event.kind(), event.backend().unwrap().job_id.as_str()), (kind, job));
    }
}

#[tokio::test]
async fn a_backend_is_up_then_down_then_drained() {
    let router = Router::start().await;
    let (free, wait) = tokio::sync::watch::channel(false);
    let backend = Backend::script(move |mut connection| {
        let mut wait = wait.clone();
        async move {
            while connection.read_request().await.is_some() {
                drop(wait.wait_for(|free| *free).await);
                drop(connection.write(ok("done").as_bytes()).await);
            }
        }
    })
    .await;
    let other = Backend::named("other").await;
    let both = Instances {
        backends: vec![instance(backend.addr, "h-1"), instance(other.addr, "h-2")],
        leader: None,
    };
    let one = Instances { backends: vec![both.backends[0].clone()], leader: None };
    let two = Instances { backends: vec![both.backends[1].clone()], leader: None };
    let mut events = Listener::open(&router, "backend-up,backend-down,backend-drained").await;
    router.sources.set("web", one);
    router.serve(&[Route { drain_backends: true, ..http_route(1, "h", "web") }]).await;
    events.expect(EventKind::BackendUp, "h-1").await;
    let mut blocked = Connection::open(router.http()).await;
    blocked.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    eventually("the request to block", || async { backend.connections() == 1 }).await;
    router.sources.set("web", both);
    events.expect(EventKind::BackendUp, "h-2").await;
    router.sources.set("web", two);
    events.expect(EventKind::BackendDown, "h-1").await;
    for _ in 0..10 {
        assert_eq!(get_host(router.http(), "h", "/").await.text(), "other");
    }
    // Who comes later hears what is up now, and then the same.
    let mut late = Listener::open(&router, "backend-up,backend-drained").await;
    late.expect(EventKind::BackendUp, "h-2").await;
    free.send_replace(true);
    assert_eq!(blocked.answer().await.text(), "done");
    events.expect(EventKind::BackendDrained, "h-1").await;
    late.expect(EventKind::BackendDrained, "h-1").await;
    // An idle backend is drained at once.
    router.sources.set("web", Instances::default());
    events.expect(EventKind::BackendDown, "h-2").await;
    events.expect(EventKind::BackendDrained, "h-2").await;
    assert_eq!(get_host(router.http(), "h", "/").await.status, 503);
}

#[tokio::test]
async fn routes_are_announced_without_their_keys() {
    let router = Router::start().await;
    let mut events = Listener::open(&router, "set,remove").await;
    let (cert, key) = crate::tls::pair(&["a.x"]);
    let certificate = Some(router_api::Certificate::new(&cert, &key));
    let route = Route { certificate, ..http_route(1, "a.x", "web") };
    router.sources.set_routes(std::slice::from_ref(&route));
    assert_eq!(events.next().await, Event::Set(Box::new(route.without_certificate())));
    let changed = Route { sticky: true, ..route };
    router.sources.set_routes(std::slice::from_ref(&changed));
    let shown = Box::new(changed.without_certificate());
    assert_eq!(events.next().await, Event::Set(shown.clone()));
    router.sources.set_routes(&[]);
    assert_eq!(events.next().await, Event::Remove(shown));
}

#[tokio::test]
async fn services_without_draining_and_types_not_asked_for_are_silent() {
    let router = Router::start().await;
    let backend = Backend::named("x").await;
    let mut events = Listener::open(&router, "backend-up,backend-down,nonsense").await;
    router.route_to(http_route(1, "quiet", "quiet"), &[backend.addr]).await;
    router
        .sources
        .set("loud", Instances { backends: vec![instance(backend.addr, "h-9")], leader: None });
    let loud = Route { drain_backends: true, ..http_route(2, "loud", "loud") };
    router.serve(&[http_route(1, "quiet", "quiet"), loud]).await;
    events.expect(EventKind::BackendUp, "h-9").await;
}

#[tokio::test]
async fn the_status_is_healthy_and_other_paths_are_plainly_unknown() {
    let router = Router::start().await;
    let status = get_host(router.api(), "x", "/.well-known/status").await;
    assert_eq!(status.status, 200);
    let text = status.text();
    assert!(text.starts_with("{\n  \"data\": {\n    \"status\": \"healthy\",\n"), "{text}");
    assert!(text.ends_with("\"version\": \"test\"\n  }\n}\n"), "{text}");
    let missing = get_host(router.api(), "x", "/nothing").await;
    assert_eq!((missing.status, missing.text()), (404, "404 page not found\n"));
}
