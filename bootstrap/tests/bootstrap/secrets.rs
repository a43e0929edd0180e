//! Secrets, certificates and waits: the kinds of steps that the later ones are made of.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use bootstrap::{
    Action, AppSpec, CertificateSpec, Count, Encoding, Options, ProcessSpec, RandomSpec,
    ResourceSpec, Step, Value, WaitSpec, WaitTarget,
};
use controller_api::{ProcessType, Strategy};
use kit_http::Json;
use kit_tasks::Tasks;
use serde_json::json;
use tokio::net::TcpListener;

use crate::fake_host::FakeHost;
use crate::run_these;

fn controller_steps() -> Vec<Step> {
    let key =
        RandomSpec { length: 16, encoding: Encoding::Hex, given: Value::Env("CONTROLLER_KEY") };
    let domain = || Value::Env("CLUSTER_DOMAIN");
    let certificate = CertificateSpec {
        hosts: vec![domain(), Value::Joined(vec![Value::text("*."), domain()])],
        ca_cert: Value::Env("TLS_CA"),
        cert: Value::Env("TLS_CERT"),
        key: Value::Env("TLS_KEY"),
    };
    vec![
        Step { id: "controller-key", action: Action::GenRandom(key) },
        Step { id: "controller-cert", action: Action::GenTlsCert(certificate) },
    ]
}

fn record(dir: &tempfile::TempDir) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(dir.path().join("bootstrap.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn secrets_are_kept_shown_to_nobody_and_made_once() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let host = FakeHost::alone(&tasks).await;
    let first = run_these(&controller_steps(), host.options(dir.path())).await;
    let kept = record(&dir);
    let data =
        |step: &str, field: &str| kept["steps"][step]["data"][field].as_str().unwrap().to_owned();
    let (key, pin) = (data("controller-key", "Data"), data("controller-cert", "Pin"));
    assert_eq!(key.len(), 32);
    let private = data("controller-cert", "PrivateKey");
    assert!(
        !first.output.contains(&key) && !first.output.contains("PRIVATE KEY"),
        "{}",
        first.output
    );
    assert!(private.contains("PRIVATE KEY"));
    assert!(first.lines.contains(&format!("done gen-tls-cert controller-cert pin: {pin}")));
    let expected = format!("flynn cluster add -p {pin} default flynn.localhost {key}");
    let outcome = first.succeed().0;
    assert_eq!(outcome.cluster_add, Some(expected));
    let again = run_these(&controller_steps(), host.options(dir.path())).await.succeed().0;
    assert_eq!(again, outcome);
}

#[tokio::test]
async fn given_keys_and_certificates_are_used() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let host = FakeHost::alone(&tasks).await;
    run_these(&controller_steps(), host.options(dir.path())).await.succeed();
    let made = record(&dir)["steps"]["controller-cert"]["data"].clone();

    let other = tempfile::tempdir().unwrap();
    let mut options = host.options(other.path());
    let given = [("TLS_CA", "CACert"), ("TLS_CERT", "Cert"), ("TLS_KEY", "PrivateKey")];
    for (variable, field) in given {
        options.env.insert(variable.to_owned(), made[field].as_str().unwrap().to_owned());
    }
    options.env.insert("CONTROLLER_KEY".to_owned(), "chosen".to_owned());
    let outcome = run_these(&controller_steps(), options).await.succeed().0;
    let pin = made["Pin"].as_str().unwrap();
    let expected = format!("flynn cluster add -p {pin} default flynn.localhost chosen");
    assert_eq!(outcome.cluster_add, Some(expected));
}

/// A service that a platform's step would wait for.
async fn service(tasks: &Tasks) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let by_host = get(async |headers: HeaderMap| {
        let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        if host == "controller.flynn.localhost" { StatusCode::UNAUTHORIZED } else { StatusCode::OK }
    });
    let resource = post(async || {
        Json(json!({ "id": "/databases/u:d", "env": { "PGUSER": "u", "PGPASSWORD": "hidden" } }))
    });
    let router = Router::new().route("/", by_host).route("/databases", resource);
    kit_http::serve(tasks, listener, router).unwrap().addr()
}

fn wait(target: WaitTarget) -> Vec<Step> {
    vec![Step { id: "controller-wait", action: Action::Wait(WaitSpec { target }) }]
}

fn http(addr: SocketAddr, host: Option<&str>, status: u16) -> WaitTarget {
    WaitTarget::Http {
        url: Value::Text(format!("http://{addr}/")),
        host: host.map(Value::text),
        status,
    }
}

#[tokio::test]
async fn answers_are_waited_for_by_status_host_and_port() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let host = FakeHost::alone(&tasks).await;
    let addr = service(&tasks).await;
    for (number, target) in [
        http(addr, None, 200),
        http(addr, Some("controller.flynn.localhost"), 401),
        WaitTarget::Tcp(Value::Text(addr.to_string())),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = dir.path().join(number.to_string());
        run_these(&wait(target), host.options(&dir)).await.succeed();
    }
    let impatient = Options { wait_timeout: Duration::ZERO, ..host.options(dir.path()) };
    let failed = run_these(&wait(http(addr, None, 404)), impatient).await;
    let expected = format!(
        "error wait controller-wait timed out after 0 s waiting for http://{addr}/: status 200 instead of 404"
    );
    assert_eq!(failed.failure(), expected);
}

#[tokio::test]
async fn an_app_gets_the_variables_of_its_resources_and_of_earlier_steps() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let host = FakeHost::alone(&tasks).await;
    let addr = service(&tasks).await;
    let url = format!("http://{addr}/databases");
    let mut steps = controller_steps();
    let web = ProcessSpec {
        name: "web",
        count: Count::Jobs { singleton: 1, cluster: 2 },
        env: vec![("ROLE", Value::text("web"))],
        process: ProcessType { args: vec!["/bin/controller".to_owned()], ..ProcessType::default() },
    };
    let controller = AppSpec {
        name: "controller",
        image: "core",
        meta: Default::default(),
        strategy: Strategy::OneByOne,
        deploy_timeout: 120,
        env: vec![("AUTH_KEY", Value::Made { step: "controller-key", field: "Data" })],
        env_prefix: None,
        processes: vec![web],
        resources: vec![ResourceSpec { name: "postgres", url: url.leak() }],
    };
    steps.push(Step { id: "controller", action: Action::RunApp(Box::new(controller)) });
    let run = run_these(&steps, host.options(dir.path())).await;
    assert!(!run.output.contains("hidden"), "{}", run.output);
    run.succeed();
    let jobs = host.jobs_of("controller");
    let env = &jobs[0].config.env;
    let key = record(&dir)["steps"]["controller-key"]["data"]["Data"].as_str().unwrap().to_owned();
    let expected = [("PGUSER", "u"), ("PGPASSWORD", "hidden"), ("ROLE", "web"), ("AUTH_KEY", &key)];
    for (name, value) in expected {
        assert_eq!(env[name], value);
    }
    assert_eq!((jobs.len(), jobs[0].config.linux_capabilities.clone()), (1, None));
}
