//! Each process of a platform is killed in turn, under load: the platform is whole again by itself.

use anyhow::{Context as _, ensure};
use cluster_tests::{Counted, DOMAIN, Load, Platform, on_platform, until};
use discoverd_api::{Client, Servers};
use serde_json::json;

/// Program, argument, and whether requests to apps may notice.
const VICTIMS: [(&str, &str, bool); 8] = [
    ("flynn-component", "controller", false),
    ("flynn-component", "scheduler", false),
    ("flynn-component", "logaggregator", false),
    ("flynn-component", "blobstore", false),
    ("flynn-core", "discoverd", false),
    ("flynn-core", "overlay", false),
    ("flynn-core", "postgres", false),
    ("flynn-core", "router", true),
];

/// Services, and the port of their status page where it is not the registered one.
const SERVICES: [(&str, Option<u16>); 4] = [
    ("controller-scheduler", None),
    ("logaggregator", Some(80)),
    ("blobstore", None),
    ("router-api", None),
];

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

async fn until_whole(platform: &Platform, registry: &Client, after: &str) -> anyhow::Result<()> {
    let mut last = None;
    let whole = until("the platform is whole", async || {
        last = is_whole(platform, registry).await.err();
        last.is_none()
    });
    let whole = whole.await;
    whole.with_context(|| format!("after {after}: {last:?}\n{}", platform.node.log()))
}

fn none_failed(counted: &Counted, during: &str) -> anyhow::Result<()> {
    ensure!(counted.answered > 0, "no request was answered during {during}");
    ensure!(counted.failed.is_empty(), "{during}: {counted:?}");
    Ok(())
}

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
        let page = format!("hello.{DOMAIN}");
        for (program, word, noticed) in VICTIMS {
            let name = format!("kill -9 of {word}");
            let load = Load::start(&page);
            let killed = platform.node.host.kill_in_jobs(program, word);
            ensure!(killed > 0, "there was no {program} {word} to kill");
            until_whole(&platform, &registry, &name).await?;
            let counted = load.stop()?;
            if !noticed {
                none_failed(&counted, &name)?;
            }
        }

        let load = Load::start(&page);
        platform.node.kill_daemon()?;
        platform.node.start_daemon().await?;
        until_whole(&platform, &registry, "kill -9 of flynn-host").await?;
        none_failed(&load.stop()?, "kill -9 of flynn-host")?;

        // The supervisor of a job is its life: the job is replaced.
        let supervisors = platform.node.host.pids("flynn-init");
        ensure!(!supervisors.is_empty(), "there is no supervisor");
        platform.node.host.kill("flynn-init", "supervise");
        until_whole(&platform, &registry, "kill -9 of every supervisor").await
    });
}
