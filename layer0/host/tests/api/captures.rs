//! What the original answered, byte for byte, but where ours is better on purpose: 404 and 409 in place of
//! 500.

use crate::fake::{Machine, PATIENCE};

const JOB: &str = r#"{"mountspecs":[{"type":"squashfs","id":"l1","url":"http://x/y","size":1,"hashes":{"sha256":"aa"}}],"config":{"args":["true"],"volumes":[{"target":"/data","volume":"v1","writeable":true}],"env":{"FLYNN_APP_ID":"app1"}}}"#;

#[tokio::test]
async fn a_job_that_waits_for_its_network() {
    let machine = Machine::new();
    let host = machine.start().await;
    let mut events = host.client.events(None).await.unwrap();
    for (method, path, body, status, want) in [
        ("GET", "/host/jobs", "", 200, "{}"),
        ("GET", "/storage/volumes", "", 200, "[]"),
        ("GET", "/sinks", "", 200, "[]"),
        ("PUT", "/host/jobs/host1-j1", JOB, 200, "{}"),
        (
            "PUT",
            "/host/jobs/host1-j1",
            JOB,
            409,
            r#"{"code":"conflict","message":"job already exists","retry":false}"#,
        ),
        (
            "PUT",
            "/host/jobs/host1-j2",
            JOB,
            409,
            r#"{"code":"conflict","message":"volumes in use: v1","retry":false}"#,
        ),
        (
            "PUT",
            "/host/jobs/host1-j3",
            r#"{"config":{}}"#,
            400,
            r#"{"code":"validation_error","message":"mountspecs must be set","detail":{"field":"mountspecs"},"retry":false}"#,
        ),
        (
            "PUT",
            "/host/jobs/host1-j1/signal/x",
            "",
            400,
            r#"{"code":"validation_error","message":"sig must be an integer","detail":{"field":"sig"},"retry":false}"#,
        ),
        (
            "PUT",
            "/host/jobs/host1-j1/signal/15",
            "",
            409,
            r#"{"code":"conflict","message":"host: job not running","retry":false}"#,
        ),
        (
            "GET",
            "/host/jobs/host1-none",
            "",
            404,
            r#"{"code":"object_not_found","message":"host: unknown job","retry":false}"#,
        ),
        ("DELETE", "/host/jobs/host1-j1", "", 200, ""),
        (
            "POST",
            "/storage/providers",
            "{}",
            400,
            r#"{"code":"validation_error","message":"kind must not be blank","detail":{"field":"kind"},"retry":false}"#,
        ),
        (
            "POST",
            "/storage/providers/odd/volumes",
            "",
            404,
            r#"{"code":"object_not_found","message":"no volume provider with id \"odd\"","retry":false}"#,
        ),
        ("POST", "/host/network", r#"{"subnet":"odd"}"#, 400, ""),
        ("POST", "/attach", "{", 400, "invalid JSON\n"),
        ("PATCH", "/host/jobs", "", 404, "404 page not found\n"),
    ] {
        let (got_status, got) = host.ask(method, path, body).await;
        assert_eq!(got_status, status, "{method} {path}: {got}");
        if !want.is_empty() {
            assert_eq!(got, want, "{method} {path}");
        }
    }
    for want in ["create", "stop"] {
        let event =
            tokio::time::timeout(PATIENCE, events.next_event()).await.unwrap().unwrap().unwrap();
        assert_eq!(serde_json::to_value(event.event).unwrap(), want);
    }
    let (_, job) = host.ask("GET", "/host/jobs/host1-j1", "").await;
    let head = r#"{"job":{"id":"host1-j1","mountspecs":[{"type":"squashfs","id":"l1","url":"http://x/y","size":1,"hashes":{"sha256":"aa"}}],"config":{"args":["true"],"env":{"FLYNN_APP_ID":"app1"},"volumes":[{"target":"/data","volume":"v1","writeable":true,"delete_on_stop":false}]}},"host_id":"host1","force_stop":true,"status":2,"created_at":"#;
    assert!(job.starts_with(head), "{job}");
    assert!(job.contains(r#""started_at":"0001-01-01T00:00:00Z","ended_at":"2"#), "{job}");
    assert!(job.ends_with(r#"Z","exit_status":0}"#), "{job}");
    let again = host.ask("DELETE", "/host/jobs/host1-j1", "").await;
    assert_eq!(again.0, 409, "{}", again.1);
    host.stop().await;
}

#[tokio::test]
async fn what_the_host_says_about_itself() {
    let machine = Machine::new();
    let host = machine
        .start_with(|config| {
            config.tags = host::parse_tags("a=b,c");
            config.flags = vec!["--id".into(), "host1".into()];
        })
        .await;
    let status = host.client.status().await.unwrap();
    assert_eq!(status.tags.len(), 2);
    assert!(status.resources.is_some_and(|resources| resources.memory.total > 0));
    let set = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    host.client.set_tags(&set("x", "")).await.unwrap();
    assert_eq!(host.client.status().await.unwrap().tags, set("x", ""));
    let taken = host.url.rsplit(':').next().unwrap();
    let body = format!(r#"{{"ports":[{{"port":{taken}}},{{"port":0,"proto":"udp"}}]}}"#);
    let want = format!(
        r#"{{"code":"conflict","message":"Conflicting resources found","detail":{{"ports":[{{"port":{taken},"proto":"tcp"}}]}},"retry":false}}"#
    );
    assert_eq!(host.ask("POST", "/host/resource-check", &body).await, (409, want));
    host.stop().await;
}

#[tokio::test]
async fn a_host_refuses_what_it_has_no_room_for_with_the_figures() {
    let machine = Machine::new();
    let host = machine
        .start_with(|config| {
            config.capacity = Some(host_job::Reservation {
                memory: kit_units::Bytes(100),
                cpu: kit_units::Millicpu(1000),
            });
        })
        .await;
    let job = JOB.replacen('{', r#"{"resources":{"memory":{"request":101}},"#, 1);
    let want = r#"{"code":"conflict","message":"not enough memory: 101 requested, 100 available","detail":{"resource":"memory","requested":101,"available":100,"generation":0},"retry":false}"#;
    assert_eq!(host.ask("PUT", "/host/jobs/host1-j", &job).await, (409, want.to_owned()));
    host.stop().await;
}
