//! Each process of a platform is killed in turn, under load: the platform is whole again by itself, and
//! where neither router nor app was touched no request fails.

use anyhow::{Context as _, ensure};
use cluster_tests::{Counted, DOMAIN, Load, Platform, on_platform, until};
use discoverd_api::{Client, Servers};
use serde_json::json;

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    /// Every process of this program that was given this word.
    Process(&'static str, &'static str),
    /// The supervisor of one job whose program is this, given this word.
    Supervisor(&'static str, &'static str),
    /// The daemon.
    Daemon,
}

/// Whether requests to apps may notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Apps {
    Untouched,
    Touched,
}

const VICTIMS: [(Victim, Apps); 16] = [
    (Victim::Process("flynn-component", "controller"), Apps::Untouched),
    (Victim::Process("flynn-component", "worker"), Apps::Untouched),
    (Victim::Process("flynn-component", "scheduler"), Apps::Untouched),
    (Victim::Process("flynn-component", "logaggregator"), Apps::Untouched),
    (Victim::Process("flynn-component", "blobstore"), Apps::Untouched),
    (Victim::Process("flynn-component", "gitreceive"), Apps::Untouched),
    (Victim::Process("flynn-core", "discoverd"), Apps::Untouched),
    (Victim::Process("flynn-core", "overlay"), Apps::Untouched),
    // The server itself, its driver, and what makes databases for apps.
    (Victim::Process("postgres", "-D"), Apps::Untouched),
    (Victim::Process("flynn-core", "postgres"), Apps::Untouched),
    (Victim::Process("flynn-core", "postgres-api"), Apps::Untouched),
    (Victim::Supervisor("flynn-component", "blobstore"), Apps::Untouched),
    (Victim::Daemon, Apps::Untouched),
    (Victim::Process("flynn-core", "router"), Apps::Touched),
    (Victim::Supervisor("flynn-core", "router"), Apps::Touched),
    (Victim::Supervisor("test-apps", "hello"), Apps::Touched),
];

/// Services, and the port of their status page where it is not the registered one.
const SERVICES: [(&str, Option<u16>); 8] = [
    ("controller-worker", None),
    ("controller-scheduler", None),
    ("logaggregator", Some(80)),
    ("blobstore", None),
    ("gitreceive", None),
    ("postgres", Some(5433)),
    ("postgres-api", None),
    ("router-api", None),
];

#[test]
fn whoever_is_killed_comes_back_and_apps_do_not_notice() {
    on_platform("kills", async |mut platform| {
        let port = json!({"port": 8080, "proto": "tcp", "service": {
            "name": "hello-web", "create": true, "check": {"type": "tcp"}}});
        let web = json!({"args": ["/bin/test-apps", "hello"], "ports": [port]});
        platform.app("hello", &json!({ "web": web })).await?;
        platform.flynn(&["-a", "hello", "scale", "web=3"])?;
        let registry = Client::new(&Servers::parse("http://127.0.0.1:1111"))?;
        until_whole(&platform, &registry, "the start").await?;
        for (victim, apps) in VICTIMS {
            let name = format!("kill -9 of {victim:?}");
            let load = Load::start(&format!("hello.{DOMAIN}"));
            kill(&mut platform, victim).await?;
            until_whole(&platform, &registry, &name).await?;
            let counted = load.stop()?;
            if apps == Apps::Untouched {
                none_failed(&counted, &name)?;
            }
        }

        // The supervisor of a job is its life, its host and its scheduler among them.
        let killed = platform.node.host.kill("flynn-init", "supervise");
        ensure!(killed > SERVICES.len(), "there were {killed} supervisors");
        until_whole(&platform, &registry, "kill -9 of every supervisor").await
    });
}

async fn kill(platform: &mut Platform, victim: Victim) -> anyhow::Result<()> {
    match victim {
        Victim::Process(program, word) => {
            let killed = platform.node.host.kill_in_jobs(program, word);
            ensure!(killed > 0, "there was no {program} {word} to kill");
        }
        Victim::Supervisor(program, word) => {
            let killed = platform.node.host.kill_supervisor_of(program, word);
            ensure!(killed, "{program} {word} had no supervisor to kill");
        }
        Victim::Daemon => {
            platform.node.kill_daemon()?;
            platform.node.start_daemon().await?;
        }
    }
    Ok(())
}

async fn until_whole(platform: &Platform, registry: &Client, after: &str) -> anyhow::Result<()> {
    let mut last = None;
    let whole = until("the platform is whole", async || {
        last = is_whole(platform, registry).await.err();
        last.is_none()
    });
    let whole = whole.await;
    whole.with_context(|| format!("after {after}: {last:?}\n{}", platform.node.log()))
}

async fn is_whole(platform: &Platform, registry: &Client) -> anyhow::Result<()> {
    for (service, port) in SERVICES {
        let instances = registry.instances(service).await?;
        let instance = instances.first().with_context(|| format!("no instance of {service}"))?;
        let host = instance.host().with_context(|| instance.addr.clone())?;
        let port = port.or(instance.port()).with_context(|| instance.addr.clone())?;
        platform.fetch(&format!("http://{host}:{port}/.well-known/status"))?;
    }
    ensure!(platform.flynn(&["apps"])?.contains("hello"), "the app is not listed");
    let listed = platform.flynn(&["-a", "hello", "ps"])?;
    let up = listed.lines().filter(|line| line.split_whitespace().any(|word| word == "up")).count();
    ensure!(up == 3, "not three jobs: {listed}");
    platform.fetch(&format!("http://hello.{DOMAIN}/")).map(drop)
}

fn none_failed(counted: &Counted, during: &str) -> anyhow::Result<()> {
    ensure!(counted.answered > 0, "no request was answered during {during}");
    ensure!(counted.failed.is_empty(), "{during}: {counted:?}");
    Ok(())
}
