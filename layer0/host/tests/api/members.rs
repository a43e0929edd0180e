//! Who may reach the host, who is asked where discoverd is, and a host that is being emptied.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, put};
use host_api::{DiscoverdConfig, HostStatus, MemberChange};
use kit_tasks::Tasks;
use serde_json::Value;

use crate::fake::{Machine, PATIENCE};

const CONFIGURED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ADMITTED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);

#[tokio::test]
async fn members_are_kept_until_an_operator_has_them_forgotten() {
    let machine = Machine::new();
    let peers = |config: &mut host::Config| {
        // As `init` has it on every host: its own address is in the list too.
        config.peer_ips = vec![CONFIGURED, config.external_ip];
    };
    let host = machine.start_with(peers).await;
    assert_eq!(machine.known_hosts(), [CONFIGURED]);
    let admit = MemberChange { add: vec![ADMITTED], remove: Vec::new() };
    host.client.change_members(&admit).await.unwrap();
    assert_eq!(machine.known_hosts(), [CONFIGURED, ADMITTED]);
    host.stop().await;

    let host = machine.start_with(peers).await;
    assert_eq!(machine.known_hosts(), [CONFIGURED, ADMITTED], "a restart forgets nobody");
    let health = host.client.health().await.unwrap();
    assert_eq!(health.members, [CONFIGURED, ADMITTED], "whoever looks for hosts is told");
    for space in [health.disk, health.memory] {
        assert!(space.total > 0 && space.free <= space.total, "{health:?}");
    }
    let forget = MemberChange { add: Vec::new(), remove: vec![ADMITTED] };
    host.client.change_members(&forget).await.unwrap();
    assert_eq!(machine.known_hosts(), [CONFIGURED]);
    let forget = MemberChange { add: Vec::new(), remove: vec![CONFIGURED] };
    host.client.change_members(&forget).await.unwrap();
    host.stop().await;

    let host = machine.start_with(peers).await;
    assert_eq!(machine.known_hosts(), [] as [Ipv4Addr; 0], "the configuration brings nobody back");
    let admit = MemberChange { add: vec![CONFIGURED], remove: Vec::new() };
    host.client.change_members(&admit).await.unwrap();
    assert_eq!(machine.known_hosts(), [CONFIGURED]);
    let (status, body) = host.ask("POST", "/host/members", r#"{"add":["x"]}"#).await;
    assert_eq!(status, 400, "{body}");
    host.stop().await;
}

#[tokio::test]
async fn a_host_that_is_emptied_takes_no_jobs_and_says_so_after_a_restart_too() {
    let machine = Machine::new();
    let host = machine.start().await;
    let job = machine.job("host1-first", &["wait", ""]).await;
    host.client.add_job(&job).await.unwrap();
    host.client.set_draining(true).await.unwrap();
    host.stop().await;

    let host = machine.start().await;
    assert!(host.client.status().await.unwrap().draining);
    let second = machine.job("host1-second", &["wait", ""]).await;
    let refused = host.client.add_job(&second).await.unwrap_err();
    assert_eq!(refused.api_code(), Some(kit_http::ErrorCode::Conflict), "{refused}");
    assert_eq!(host.client.active_jobs().await.unwrap().len(), 1, "what runs is left alone");
    host.client.set_draining(false).await.unwrap();
    host.client.add_job(&second).await.unwrap();
    host.go_down().await;
}

type Registered = Arc<Mutex<Vec<Value>>>;

/// A host of a cluster, and its discoverd, on one port of another address.
async fn member(tasks: &Tasks) -> (std::net::SocketAddr, Registered) {
    let registered = Registered::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let status = async move || {
        let text = serde_json::json!({
            "id": "host2", "pid": 1, "url": format!("http://{addr}"), "version": "dev",
            "discoverd": DiscoverdConfig { url: format!("http://{addr}"), ..Default::default() },
        });
        kit_http::Json(serde_json::from_value::<HostStatus>(text).unwrap())
    };
    let instance = async |State(registered): State<Registered>,
                          Path((service, _)): Path<(String, String)>,
                          kit_http::Json(instance): kit_http::Json<Value>| {
        if service == "flynn-host" {
            registered.lock().unwrap().push(instance);
        }
    };
    let routes = Router::new()
        .route("/host/status", get(status))
        .route("/services/{service}/instances/{id}", put(instance));
    let routes = kit_http::finish(routes.with_state(registered.clone()));
    kit_http::serve(tasks, listener, routes).unwrap();
    (addr, registered)
}

#[tokio::test]
async fn a_host_that_joins_is_in_the_cluster_before_it_has_a_discoverd() {
    let tasks = Tasks::root("test");
    let (addr, registered) = member(&tasks).await;
    let machine = Machine::new();
    let host = machine
        .start_with(|config| {
            config.peer_ips = vec!["127.0.0.2".parse().unwrap()];
            // Where it listens first is the port all hosts have their API on.
            config.listen = vec![([127, 0, 0, 3], addr.port()).into()];
        })
        .await;
    let seen = async {
        while registered.lock().unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
    assert_eq!(registered.lock().unwrap()[0]["meta"]["id"], "host1");
    assert_eq!(host.client.status().await.unwrap().discoverd, None, "that is its own alone");
    host.stop().await;
}
