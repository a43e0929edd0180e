//! Event and formation streams: filters, resuming, order, and that nothing falls between the stored
//! part and the live one.

use controller_api::{Event, EventFilter, EventType, EventsFrom, ExpandedFormation, ScaleRequest};

use crate::examples::demo;
use crate::support::{DEADLINE, Server, accepting, send};

async fn next(stream: &mut controller_api::EventStream) -> Event {
    let event =
        tokio::time::timeout(DEADLINE, stream.next_event()).await.expect("an event in time");
    event.expect("no end").expect("no error")
}

async fn next_formation(stream: &mut controller_api::FormationStream) -> ExpandedFormation {
    let next = tokio::time::timeout(DEADLINE, stream.next_formation()).await;
    next.expect("a formation in time").expect("no end").expect("no error")
}

#[tokio::test]
async fn events_come_in_order_filtered_and_resumed() {
    let server = Server::start().await;
    let api = server.api();
    let mut live = api.stream_events(&EventFilter::default(), EventsFrom::Now).await.unwrap();
    let (_, release) = demo(&server).await;
    server.put("/apps/demo/release", &format!(r#"{{"id":"{release}"}}"#)).await;
    server.post("/apps", r#"{"name":"other"}"#).await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(next(&mut live).await);
    }
    let kinds: Vec<_> = seen.iter().filter_map(|event| event.object_type).collect();
    let want = [
        EventType::App,
        EventType::Artifact,
        EventType::Release,
        EventType::AppRelease,
        EventType::App,
    ];
    assert_eq!(kinds, want);
    assert!(seen.is_sorted_by(|a, b| a.id < b.id));

    let of_demo = EventFilter::of_app("demo").types(&[EventType::App, EventType::Release]);
    let listed = api.events(&of_demo, None).await.unwrap();
    assert_eq!(listed.iter().map(|event| event.id).collect::<Vec<_>>(), [seen[2].id, seen[0].id]);
    assert_eq!(api.events(&of_demo, Some(1)).await.unwrap().len(), 1);
    assert_eq!(api.event(seen[0].id).await.unwrap(), seen[0]);
    let between = format!("/events?since_id={}&before_id={}", seen[0].id, seen[3].id);
    let between = send(&server.http, accepting(&between, "application/json")).await.json();
    assert_eq!(between.as_array().unwrap().len(), 2, "both ends are left out");

    let mut past = api.stream_events(&of_demo, EventsFrom::Beginning).await.unwrap();
    assert_eq!(next(&mut past).await, seen[0]);
    assert_eq!(next(&mut past).await, seen[2]);
    server.post("/apps/demo", r#"{"deploy_timeout":7}"#).await;
    assert_eq!(next(&mut past).await.data["deploy_timeout"], 7);
    let mut resumed =
        api.stream_events(&EventFilter::default(), EventsFrom::After(seen[3].id)).await.unwrap();
    assert_eq!(next(&mut resumed).await, seen[4]);
    server.stop().await;
}

#[tokio::test]
async fn many_writers_at_once_lose_no_event() {
    let server = Server::start().await;
    let api = server.api();
    let filter = EventFilter::default().types(&[EventType::App]);
    let mut live = api.stream_events(&filter, EventsFrom::Now).await.unwrap();
    let writers =
        (0..40).map(|n| {
            let api = api.clone();
            async move {
                api.create_app(&controller_api::App::named(&format!("app-{n}"))).await.unwrap()
            }
        });
    let made = futures_util::future::join_all(writers).await;
    let mut last = 0;
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..made.len() {
        let event = next(&mut live).await;
        assert!(event.id > last, "ids grow");
        last = event.id;
        told.insert(event.object_id);
    }
    let made = made.iter().map(|app| app.id.as_ref().unwrap().to_string());
    assert_eq!(made.collect::<std::collections::BTreeSet<_>>(), told);
    server.stop().await;
}

#[tokio::test]
async fn a_listener_that_lost_its_connection_misses_nothing() {
    let server = Server::start().await;
    let api = server.api();
    let filter = EventFilter::default().types(&[EventType::App]);
    let mut live = api.stream_events(&filter, EventsFrom::Now).await.unwrap();
    server.post("/apps", r#"{"name":"one"}"#).await;
    assert_eq!(next(&mut live).await.data["name"], "one");
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE pid <> pg_backend_pid() AND datname = current_database()";
    server.sql(kill).await;
    while server.post("/apps", r#"{"name":"two"}"#).await.status != 200 {
        assert_ne!(server.get("/apps/two").await.status, 200, "a refused app is not there");
    }
    assert_eq!(next(&mut live).await.data["name"], "two");
    server.stop().await;
}

#[tokio::test]
async fn formations_are_streamed_as_they_change() {
    let server = Server::start().await;
    let api = server.api();
    let (app, release) = demo(&server).await;
    let release = release.parse().unwrap();
    let counts = |n| Some([("web".to_owned(), n)].into());
    let scale =
        async |n| api.put_scale("demo", &release, &ScaleRequest::pending(counts(n), None)).await;
    scale(1).await.unwrap();
    let since = "2020-01-01T00:00:00Z".parse().unwrap();
    let mut stream = api.stream_formations(since).await.unwrap();
    let existing = next_formation(&mut stream).await;
    assert_eq!(existing.processes["web"], 1);
    assert_eq!(existing.app.clone().unwrap(), api.app(&app).await.unwrap());
    assert_eq!(existing.release.unwrap(), api.release(&release).await.unwrap());
    assert_eq!(existing.artifacts.len(), 1);
    assert!(next_formation(&mut stream).await.is_sentinel());
    let request = scale(2).await.unwrap();
    // The event of the first request may still be on its way when the stream begins.
    let mut changed = next_formation(&mut stream).await;
    while changed.processes["web"] == 1 {
        changed = next_formation(&mut stream).await;
    }
    assert_eq!(changed.processes["web"], 2);
    assert_eq!(changed.pending_scale_request.unwrap().id, request.id);
    api.delete_formation("demo", &release).await.unwrap();
    let mut gone = next_formation(&mut stream).await;
    while !gone.deleted {
        gone = next_formation(&mut stream).await;
    }
    assert!(gone.deleted && gone.processes.is_empty(), "{gone:?}");
    assert_eq!(gone.pending_scale_request.unwrap().wanted_processes().unwrap()["web"], 0);

    let answer = send(&server.http, accepting("/formations", "text/event-stream")).await;
    let want = "event: error\ndata: parsing time \"\" as \"2006-01-02T15:04:05.999999999Z07:00\": cannot parse \"\" as \"2006\"\n\n";
    assert_eq!((answer.status, answer.body.as_str()), (200, want));
    let answer = send(&server.http, accepting("/events?count=x", "text/event-stream")).await;
    assert_eq!(answer.status, 400);
    server.stop().await;
}

/// What wants a formation and the request that says so are told of the same moment: else a scheduler would
/// take a request for fulfilled that it has not seen yet.
#[tokio::test]
async fn a_formation_and_its_pending_request_are_of_one_moment() {
    let server = Server::start().await;
    let (_, release) = demo(&server).await;
    let path = format!("/apps/demo/formations/{release}");
    let change = async {
        for round in 0..60 {
            let body = format!(r#"{{"processes":{{"web":{}}}}}"#, round % 7 + 1);
            assert_eq!(server.put(&path, &body).await.status, 200);
        }
    };
    let look = async {
        for _ in 0..200 {
            let told = server.get(&format!("{path}?expand=true")).await;
            if told.status != 200 {
                continue;
            }
            let told = told.json();
            if let Some(request) = told.get("pending_scale_request").filter(|it| !it.is_null()) {
                assert_eq!(request["new_processes"], told["processes"], "{told}");
            }
        }
    };
    tokio::join!(change, look);
    server.stop().await;
}
