//! Hosts and servers of discoverd that this process makes up, on loopback addresses of their own.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::routing::get;
use kit_tasks::Tasks;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::doctor::facts::{Seen, Silence};

/// A cluster: `127.77.a.1` and up, the ports the same on every host.
struct Fake {
    net: u8,
    host_port: u16,
    discoverd_port: u16,
    tasks: Tasks,
}

impl Fake {
    async fn new() -> Self {
        let tasks = Tasks::root("test");
        let net = u8::try_from(std::process::id() % 250).unwrap();
        let own = Ipv4Addr::new(127, 77, net, 1);
        let ports = [TcpListener::bind((own, 0)).await, TcpListener::bind((own, 0)).await];
        let [host_port, discoverd_port] =
            ports.map(|listener| listener.unwrap().local_addr().unwrap().port());
        Self { net, host_port, discoverd_port, tasks }
    }

    fn ip(&self, n: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 77, self.net, n)
    }

    async fn serve(&self, addr: SocketAddr, routes: Vec<(&'static str, Value)>) {
        let mut router = Router::new();
        for (path, answer) in routes {
            router = router.route(path, get(async move || kit_http::Json(answer.clone())));
        }
        let listener = TcpListener::bind(addr).await.unwrap();
        kit_http::serve(&self.tasks, listener, kit_http::finish(router)).unwrap();
    }

    async fn host(&self, n: u8, knows: &[u8], jobs: Value) {
        let ip = self.ip(n);
        let members: Vec<_> = knows.iter().map(|n| self.ip(*n)).collect();
        let now = host_api::Timestamp(chrono::Utc::now());
        let routes = vec![
            (
                "/host/status",
                json!({"id": format!("host{n}"), "pid": 1, "version": "dev",
                    "url": format!("http://{ip}:{}", self.host_port)}),
            ),
            (
                "/host/health",
                json!({"now": now, "data_dir": "/data", "members": members,
                    "disk": {"total": 100, "free": 50}}),
            ),
            ("/host/jobs", jobs),
        ];
        self.serve((ip, self.host_port).into(), routes).await;
    }

    fn server(&self, n: u8) -> String {
        format!("{}:{}", self.ip(n), self.discoverd_port)
    }

    async fn discoverd(&self, n: u8, more: Vec<(&'static str, Value)>) {
        let host = |n: u8| {
            let addr = format!("{}:{}", self.ip(n), self.host_port);
            json!({"id": "x", "addr": addr, "proto": "tcp", "meta": {"id": format!("host{n}")}})
        };
        let member = |n, votes| json!({"addr": self.server(n), "votes": votes});
        let mut routes = vec![
            ("/raft/peers", json!([self.server(1), self.server(2)])),
            ("/raft/leader", json!({"host": self.server(1)})),
            ("/raft/members", json!([member(1, true), member(2, true), member(9, false)])),
            ("/services/flynn-host/instances", json!([host(1), host(2)])),
        ];
        routes.extend(more);
        self.serve((self.ip(n), self.discoverd_port).into(), routes).await;
    }

    fn start(&self, hosts: &[u8]) -> Start {
        Start {
            local: format!("http://{}:{}", self.ip(1), self.host_port),
            configured: [self.ip(7)].into(),
            hosts: hosts.iter().map(|n| self.ip(*n)).collect(),
            discoverd: Servers::parse(&self.server(1)),
            host_port: self.host_port,
            discoverd_port: self.discoverd_port,
        }
    }
}

#[tokio::test]
async fn everybody_who_is_named_is_asked_and_whoever_is_away_is_no_obstacle() {
    let fake = Fake::new().await;
    let job = json!({"host1-a": {"job": {"id": "host1-a", "config": {"env": {"AUTH_KEY": "new,old"}},
        "metadata": {"flynn-controller.app_name": "controller"}}, "status": 1}});
    fake.host(1, &[2, 3], job).await;
    fake.host(2, &[1, 3, 4], json!({})).await;
    let controller = format!("{}:1", fake.ip(1));
    let registry = vec![
        (
            "/services/flannel/meta",
            json!({"data": {"config": {}, "subnets": {
                "100.100.1.0-24": {"PublicIP": fake.ip(1)},
                "100.100.9.0-24": {"PublicIP": fake.ip(9)}}}, "index": 3}),
        ),
        ("/services/router-api/instances", json!([{"addr": "10.0.0.1:80", "proto": "tcp"}])),
        ("/services/controller/instances", json!([{"addr": controller, "proto": "tcp"}])),
        ("/services/controller-scheduler/instances", json!([])),
    ];
    fake.discoverd(1, registry).await;
    // The fourth is only known to the second; it takes connections and says nothing.
    let mute = TcpListener::bind((fake.ip(4), fake.host_port)).await.unwrap();
    let facts = gather(&fake.start(&[])).await;
    drop(mute);

    let names: Vec<_> = facts.hosts.iter().map(HostFacts::name).collect();
    assert_eq!(names, ["host1", "host2", &fake.ip(3).to_string(), &fake.ip(4).to_string()]);
    let registered: Vec<_> = facts.hosts.iter().map(|host| host.registered).collect();
    assert_eq!(registered, [true, true, false, false]);
    assert_eq!(facts.hosts[2].answer.as_ref().unwrap_err(), &Silence::NoDaemon);
    assert!(matches!(facts.hosts[3].answer.as_ref().unwrap_err(), Silence::Away(_)));
    let first = facts.hosts[0].answer.as_ref().unwrap();
    assert_eq!(first.machine.as_ref().unwrap().disk, (50, 100));
    assert_eq!(first.jobs[0].app, "controller");

    let servers: Vec<_> =
        facts.discovery.servers.iter().map(|server| (server.ip, server.answer.is_some())).collect();
    let expected = [1, 2, 3, 4, 9].map(|n| (fake.ip(n), n == 1));
    assert_eq!(servers, expected, "the member that no host has is asked too");
    let best = facts.discovery.best().unwrap().1;
    assert_eq!(best.leader, Some(fake.ip(1)));
    assert_eq!(best.learners, Some([fake.ip(9)].into()));
    assert_eq!(facts.discovery.leases, Some([fake.ip(1), fake.ip(9)].into()));
    let services = facts.platform.services.as_ref().unwrap();
    assert_eq!((services["router-api"], services["controller-scheduler"]), (1, 0));
    assert!(matches!(&facts.platform.controller, Seen::Unwell(_)), "nobody listens there");
    assert_eq!(facts.platform.database, Seen::NotAsked, "nobody ever ran one");
    fake.tasks.stop();
}

#[tokio::test]
async fn a_controller_says_what_is_wanted_what_waits_and_where_domains_lead() {
    let fake = Fake::new().await;
    let app = "8c3b1f3e-8d4b-4d7e-9a5c-0c8d5a1e2f30";
    let app_object = json!({"id": app, "name": "shop", "meta": {}});
    let at = SocketAddr::from((fake.ip(5), fake.host_port));
    let routes = vec![
        ("/ping", json!({})),
        ("/.well-known/status", json!({"data": {"status": "unhealthy", "detail": "no database"}})),
        (
            "/formations",
            json!([{"app": app_object, "processes": {"web": 2}, "tags": {},
                "release": {"processes": {"web": {"omni": true}}}}]),
        ),
        (
            "/active-jobs",
            json!([{"app": app, "type": "web", "state": "pending", "host_error": "no room"}]),
        ),
        (
            "/routes",
            json!([{"type": "http", "service": "shop-web", "domain": "shop.flynn.localhost",
                "parent_ref": format!("controller/apps/{app}"),
                "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}]),
        ),
        ("/apps", json!([app_object])),
    ];
    fake.serve(at, routes).await;
    fake.host(1, &[], json!({})).await;
    let registry = vec![
        ("/services/controller/instances", json!([{"addr": at.to_string(), "proto": "tcp"}])),
        ("/services/shop-web/instances", json!([])),
    ];
    fake.discoverd(1, registry).await;
    let platform = gather(&fake.start(&[])).await.platform;
    assert_eq!(platform.controller, Seen::Unwell("\"no database\"".to_owned()));
    let wanted = &platform.wanted.unwrap()[0];
    assert_eq!((wanted.app.as_str(), wanted.count, wanted.on_every_host), ("shop", 2, true));
    assert_eq!(platform.waiting[0].reason, "no room");
    let route = &platform.routes[0];
    assert_eq!((route.app.as_str(), route.backends, route.wanted), ("shop", Some(0), 2));
    fake.tasks.stop();
}

#[tokio::test]
async fn a_machine_without_anything_is_told_so() {
    let fake = Fake::new().await;
    let facts = gather(&fake.start(&[])).await;
    assert!(facts.discovery.best().is_none());
    let asked: Vec<_> = facts.hosts.iter().map(|host| host.ip).collect();
    assert_eq!(asked, [fake.ip(7)], "the configuration is what is left");
    let facts = gather(&fake.start(&[1])).await;
    assert_eq!(facts.hosts[0].answer.as_ref().unwrap_err(), &Silence::NoDaemon);
}
