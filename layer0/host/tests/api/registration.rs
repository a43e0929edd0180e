//! The registration proxy, from a job's own address: what it may write, and that nobody else may.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::put;
use host_api::{DiscoverdConfig, EventKind, NetworkConfig, Port, Service};
use kit_tasks::Tasks;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fake::{BRIDGE, JOB_IP, Machine, PATIENCE};

type Written = Arc<Mutex<Vec<(String, Value)>>>;

/// Remembers what is registered.
fn discoverd(tasks: &Tasks, listener: tokio::net::TcpListener) -> (String, Written) {
    let written = Written::default();
    let instance = async |State(written): State<Written>,
                          Path((service, _)): Path<(String, String)>,
                          kit_http::Json(instance): kit_http::Json<Value>| {
        written.lock().unwrap().push((service, instance));
    };
    let routes = Router::new().route("/services/{service}/instances/{id}", put(instance));
    let routes = kit_http::finish(routes.with_state(written.clone()));
    let addr = kit_http::serve(tasks, listener, routes).unwrap().addr();
    (format!("http://{addr}"), written)
}

/// PUTs an instance at `addr` from this address; gives the answer's status.
async fn register(from: Ipv4Addr, service: &str, addr: &str) -> u16 {
    let id = discoverd_api::instance_id("tcp", addr);
    let body = json!({"id": id, "addr": addr, "proto": "tcp"}).to_string();
    let request = format!(
        "PUT /services/{service}/instances/{id} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let proxy = SocketAddr::from((BRIDGE, 1111));
    let ask = async {
        loop {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from((from, 0))).unwrap();
            // It listens a moment after the host was told its network.
            if let Ok(mut stream) = socket.connect(proxy).await {
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                return answer.split(' ').nth(1).unwrap().parse().unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ask).await.unwrap()
}

#[tokio::test]
async fn a_job_registers_itself_in_services_of_its_own_app_and_nowhere_else() {
    let tasks = Tasks::root("test");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, written) = discoverd(&tasks, listener);
    let machine = Machine::new();
    let host = machine.start().await;
    let network = NetworkConfig { subnet: format!("{BRIDGE}/24"), ..NetworkConfig::default() };
    host.client.configure_network(&network).await.unwrap();
    let config = DiscoverdConfig { url, dns: String::new(), job_id: String::new() };
    host.client.configure_discoverd(&config).await.unwrap();
    let mut job = machine.job("host1-self", &["wait", ""]).await;
    (job.config.host_network, job.config.register) = (false, true);
    job.partition = "user".to_owned();
    job.config.env.clear();
    job.metadata.insert("flynn-controller.app_name".to_owned(), "shop".to_owned());
    job.metadata.insert("flynn-controller.type".to_owned(), "web".to_owned());
    let service = Service { name: "till".to_owned(), create: false, check: None };
    job.config.ports = vec![Port { port: 80, proto: "tcp".to_owned(), service: Some(service) }];
    let mut events = host.client.events(Some(&job.id)).await.unwrap();
    host.client.add_job(&job).await.unwrap();
    loop {
        let event = tokio::time::timeout(PATIENCE, events.next_event()).await.unwrap();
        if event.unwrap().unwrap().event == EventKind::Start {
            break;
        }
    }
    let env = machine.supervisors.specs()[0].env.clone();
    let told = env.iter().find(|(key, _)| key == "DISCOVERD").map(|(_, url)| url.clone());
    assert_eq!(told, Some(format!("http://{BRIDGE}:1111")));
    let (own, other) = (format!("{JOB_IP}:80"), format!("{BRIDGE}:80"));
    for (from, service, addr, status) in [
        (JOB_IP, "shop-web", &own, 200),
        (JOB_IP, "till", &own, 200),
        (JOB_IP, "shop-web", &other, 400),
        (JOB_IP, "controller", &own, 401),
        (BRIDGE, "shop-web", &own, 401),
    ] {
        assert_eq!(register(from, service, addr).await, status, "{from} {service} {addr}");
    }
    let mut written: Vec<_> =
        written.lock().unwrap().iter().map(|(name, _)| name.clone()).collect();
    // The host itself is registered too.
    written.retain(|name| name != "flynn-host");
    assert_eq!(written, ["shop-web", "till"]);
    host.client.stop_job(&job.id).await.unwrap();
    host.stop().await;
    tasks.stop();
}

#[tokio::test]
async fn a_host_never_forgets_where_discoverd_is() {
    let machine = Machine::new();
    let host = machine.start().await;
    let text = str::to_owned;
    let known = DiscoverdConfig { url: text("http://192.0.2.1:1"), ..DiscoverdConfig::default() };
    host.client.configure_discoverd(&known).await.unwrap();
    for (told, is_taken) in [
        (DiscoverdConfig::default(), true),
        (DiscoverdConfig { job_id: text("host1-discoverd"), ..DiscoverdConfig::default() }, true),
        (DiscoverdConfig { url: text("http://[::1"), ..DiscoverdConfig::default() }, false),
    ] {
        assert_eq!(host.client.configure_discoverd(&told).await.is_ok(), is_taken, "{told:?}");
    }
    let want = DiscoverdConfig { job_id: text("host1-discoverd"), ..known };
    assert_eq!(host.client.status().await.unwrap().discoverd, Some(want));
    host.stop().await;
}
