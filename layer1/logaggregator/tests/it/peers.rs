//! Several aggregators, with a discoverd that this file plays: the leader's lines come first, then the
//! registration.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, put};
use discoverd_api::{Client, Instance, Servers};
use kit_http::{ApiError, Json, serve};
use kit_tasks::{Running, Tasks};
use logaggregator::{Config, Registration};
use tokio::net::{TcpListener, TcpSocket};

use super::{PATIENCE, captured, http, send, start, syslog, texts, until};

/// Registrations in order; the first leads.
type Registered = Arc<Mutex<Vec<Instance>>>;

async fn register(
    State(registered): State<Registered>,
    Path((service, _)): Path<(String, String)>,
    Json(instance): Json<Instance>,
) {
    assert_eq!(service, "logaggregator");
    assert_eq!(instance.validate(), Ok(()));
    let mut registered = registered.lock().unwrap();
    registered.retain(|known| known.id != instance.id);
    registered.push(instance);
}

async fn leader(State(registered): State<Registered>) -> Result<Json<Instance>, ApiError> {
    let first = registered.lock().unwrap().first().cloned();
    first.map(Json).ok_or_else(|| ApiError::object_not_found("no leader"))
}

async fn discoverd() -> (Running, Registered) {
    let registered = Registered::default();
    let routes = Router::new()
        .route("/services/{service}/instances/{id}", put(register).delete(async || ()))
        .route("/services/{service}/leader", get(leader))
        .with_state(registered.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (serve(&Tasks::root("discoverd"), listener, kit_http::finish(routes)).unwrap(), registered)
}

async fn member(discoverd: &Running) -> Running {
    let discoverd = Client::new(&Servers::parse(&discoverd.addr().to_string())).unwrap();
    let service = logaggregator::DEFAULT_SERVICE.to_owned();
    let registration =
        Some(Registration { discoverd, service, address: Ipv4Addr::LOCALHOST.into() });
    let config = Config { registration, ..Config::alone() };
    logaggregator::start(config, &Tasks::root("member")).await.unwrap()
}

async fn until_registered(registered: &Registered, running: &Running) {
    let addr = syslog(running).to_string();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !registered.lock().unwrap().iter().any(|instance| instance.addr == addr) {
        assert!(tokio::time::Instant::now() < deadline, "{addr} is not registered");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_new_aggregator_has_the_earlier_lines_before_hosts_find_it() {
    let (discoverd, registered) = discoverd().await;
    let first = member(&discoverd).await;
    until_registered(&registered, &first).await;
    send(syslog(&first), &captured::run()).await;
    let second = member(&discoverd).await;
    until_registered(&registered, &second).await;
    for path in ["/log/app1", "/cursors"] {
        let (_, want) = super::get(http(&first), path).await;
        let (_, got) = super::get(http(&second), path).await;
        assert_eq!(got, want, "{path}");
    }
    for running in [second, first, discoverd] {
        running.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn an_aggregator_works_while_discoverd_is_away() {
    // Bound, so that nobody takes the port, but not listening.
    let away = TcpSocket::new_v4().unwrap();
    away.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let discoverd = Client::new(&Servers::parse(&away.local_addr().unwrap().to_string())).unwrap();
    let service = logaggregator::DEFAULT_SERVICE.to_owned();
    let registration =
        Some(Registration { discoverd, service, address: Ipv4Addr::LOCALHOST.into() });
    let config = Config { registration, ..Config::alone() };
    let running = logaggregator::start(config, &Tasks::root("member")).await.unwrap();
    send(syslog(&running), &captured::run()).await;
    let body = until(http(&running), "/log/app1?lines=1", |body| !body.is_empty()).await;
    assert_eq!(texts(&body).len(), 1);
    running.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_it() {
    let running = start().await;
    let config = Config { http: http(&running), ..Config::alone() };
    let error = logaggregator::start(config, &Tasks::root("second")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}", http(&running)));
    running.stop(PATIENCE).await;
}
