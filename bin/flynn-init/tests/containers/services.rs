//! Registration in discoverd and health checks, against a small server that speaks its wire form.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host_container::protocol::{
    CheckKind, HealthCheck, Notice, Order, ServiceSpec, SupervisorFrame,
};

use crate::lifecycle::until_running;
use crate::support::{Job, eventually, until};

/// Records requests as `METHOD path body` and answers 200.
struct Discoverd {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Discoverd {
    fn start(listener: TcpListener) -> Self {
        let addr = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        // Ends with the test process: it owns nothing but its socket.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(request) = read_request(&stream) {
                    seen.lock().unwrap().push(request);
                    let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            }
        });
        Self { addr, requests }
    }

    fn has(&self, text: &str) -> bool {
        self.requests.lock().unwrap().iter().any(|request| request.contains(text))
    }

    fn count(&self, text: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.contains(text)).count()
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

fn read_request(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request = first.strip_suffix(" HTTP/1.1\r\n")?;
    Some(format!("{request} {}", String::from_utf8_lossy(&body)))
}

fn free_addr() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn service(addr: &str, check: Option<HealthCheck>) -> ServiceSpec {
    ServiceSpec {
        name: "app-web".to_owned(),
        create: true,
        proto: "tcp".to_owned(),
        addr: addr.to_owned(),
        check,
    }
}

fn fast(kind: CheckKind) -> HealthCheck {
    HealthCheck { interval: Duration::from_millis(50), ..HealthCheck::new(kind) }
}

#[test]
fn a_service_is_registered_kept_alive_and_taken_out() {
    let discoverd = Discoverd::start(TcpListener::bind("127.0.0.1:0").unwrap());
    let mut job = Job::new(&["wait"]).with(|spec| {
        spec.services = vec![service("192.0.2.1:1113", None)];
        spec.discoverd = Some(discoverd.url());
        spec.instance_meta = [("FLYNN_JOB_ID".to_owned(), "h-u".to_owned())].into();
    });
    job.launch();
    let mut client = job.connect();
    until(&mut client, |frame| matches!(frame, SupervisorFrame::Notice(Notice::ServiceUp { .. })));
    let instance = "PUT /services/app-web/instances/064e7fa5bf5dc48faf91cddd43bf656e";
    assert_eq!(
        discoverd.requests.lock().unwrap()[..2],
        [
            r#"PUT /services/app-web {"leader_type":"oldest"}"#.to_owned(),
            format!(
                r#"{instance} {{"id":"064e7fa5bf5dc48faf91cddd43bf656e","addr":"192.0.2.1:1113","proto":"tcp","meta":{{"FLYNN_JOB_ID":"h-u"}}}}"#
            ),
        ]
    );
    eventually("a second heartbeat", || discoverd.count(instance) >= 2);
    client.call(Order::Signal { signal: 9 }, drop).unwrap().unwrap();
    job.wait();
    assert!(discoverd.has("DELETE /services/app-web/instances/064e7fa5bf5dc48faf91cddd43bf656e"));
}

#[test]
fn a_health_check_decides_when_a_service_is_up() {
    for (kind, text) in [(CheckKind::Tcp, ""), (CheckKind::Http, "health")] {
        let discoverd = Discoverd::start(TcpListener::bind("127.0.0.1:0").unwrap());
        let addr = free_addr();
        let check = HealthCheck { expect_text: text.to_owned(), ..fast(kind) };
        let mut job = Job::new(&["listen", &addr]).with(|spec| {
            spec.services = vec![service(&addr, Some(check))];
            spec.discoverd = Some(discoverd.url());
        });
        job.launch();
        let mut client = job.connect();
        until(&mut client, |frame| {
            matches!(frame, SupervisorFrame::Notice(Notice::ServiceUp { .. }))
        });
        client.call(Order::Deregister, drop).unwrap().unwrap();
        eventually("it is taken out", || discoverd.has("DELETE"));
        client.call(Order::Signal { signal: 9 }, drop).unwrap().unwrap();
    }
}

#[test]
fn a_wrong_answer_is_not_healthy_and_kills_a_job_that_must_be_up() {
    let discoverd = Discoverd::start(TcpListener::bind("127.0.0.1:0").unwrap());
    let addr = free_addr();
    let check = HealthCheck {
        expect_status: 204,
        kill_down: true,
        start_timeout: Duration::from_millis(500),
        ..fast(CheckKind::Http)
    };
    let outcome = Job::new(&["listen", &addr])
        .with(|spec| {
            spec.services = vec![service(&addr, Some(check))];
            spec.discoverd = Some(discoverd.url());
        })
        .run();
    assert_eq!(outcome.exit.signal, Some(9), "{}", outcome.init);
    assert!(outcome.init.contains("service app-web is down"), "{}", outcome.init);
    assert!(!discoverd.has("instances"));
}

#[test]
fn a_service_follows_discoverd_that_comes_later_and_moves() {
    let mut job = Job::new(&["wait"]).with(|spec| {
        spec.services = vec![service("192.0.2.1:80", None)];
        spec.discoverd = Some(format!("http://{}", free_addr()));
    });
    job.launch();
    let mut client = job.connect();
    until_running(&mut client);
    let discoverd = Discoverd::start(TcpListener::bind("127.0.0.1:0").unwrap());
    client.call(Order::SetDiscoverd { urls: discoverd.url() }, drop).unwrap().unwrap();
    eventually("it is registered", || discoverd.has("PUT /services/app-web/instances/"));
    let moved = Discoverd::start(TcpListener::bind("127.0.0.1:0").unwrap());
    client
        .call(Order::SetDiscoverd { urls: format!("{},none", moved.addr) }, drop)
        .unwrap()
        .unwrap();
    eventually("it is registered there too", || moved.has("PUT /services/app-web/instances/"));
    client.call(Order::Signal { signal: 9 }, drop).unwrap().unwrap();
}

#[test]
fn an_https_check_is_asked_of_the_daemon() {
    let discoverd = Discoverd::start(TcpListener::bind("127.0.0.1:0").unwrap());
    let mut job = Job::new(&["wait"]).with(|spec| {
        let check = HealthCheck { host: "app.example".to_owned(), ..fast(CheckKind::Https) };
        spec.services = vec![service("192.0.2.1:443", Some(check))];
        spec.discoverd = Some(discoverd.url());
    });
    job.launch();
    let mut client = job.connect();
    let frame =
        until(&mut client, |frame| matches!(frame, SupervisorFrame::Notice(Notice::HttpsCheck(_))));
    let SupervisorFrame::Notice(Notice::HttpsCheck(asked)) = frame else { unreachable!() };
    assert_eq!((asked.addr.as_str(), asked.host.as_str()), ("192.0.2.1:443", "app.example"));
    client.send(Order::HttpsResult { check: asked.check, healthy: true }).unwrap();
    until(&mut client, |frame| matches!(frame, SupervisorFrame::Notice(Notice::ServiceUp { .. })));
    client.call(Order::Signal { signal: 9 }, drop).unwrap().unwrap();
    job.follow(client);
}
