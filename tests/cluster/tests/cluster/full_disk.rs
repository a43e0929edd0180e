//! A host whose disk is full: apps go on serving, what needs the disk fails with a reason, and when there
//! is room again everything goes on by itself and what was acknowledged is there.

use anyhow::{Context as _, bail, ensure};
use cluster_tests::{DOMAIN, Load, Platform, on_small_host, until};
use discoverd_api::{Client, Instance, Servers, ServiceConfig};
use serde_json::json;

/// Room for the images and a platform, and little more, so that it is full soon.
const DISK: &str = "1500m";
/// Apps or registrations that are tried while there is no room: some still find a hole in their file.
const TRIES: u16 = 2000;

#[test]
fn a_full_disk_costs_no_request_and_loses_nothing() {
    on_small_host("fulldisk", DISK, async |node| {
        let platform = Platform::bootstrap(node).await?;
        let port = json!({"port": 8080, "proto": "tcp", "service": {
            "name": "hello-web", "create": true, "check": {"type": "tcp"}}});
        let web = json!({"args": ["/bin/test-apps", "hello"], "ports": [port]});
        platform.app("hello", &json!({ "web": web })).await?;
        platform.flynn(&["-a", "hello", "scale", "web=2"])?;
        let page = format!("http://hello.{DOMAIN}/");
        until("the page is there", async || platform.fetch(&page).is_ok()).await?;
        let registry = Client::new(&Servers::parse("http://127.0.0.1:1111"))?;
        registry.ensure_service("many", ServiceConfig::default()).await?;

        let load = Load::start(&format!("hello.{DOMAIN}"));
        fill(&platform)?;
        let apps = apps_until_refused(&platform)?;
        jobs_until_refused(&platform).await?;
        let registered = registrations_until_refused(&registry).await?;
        ensure!(registry.instances("hello-web").await?.len() == 2, "services are not answered");
        empty(&platform)?;

        works_again(&platform, &registry).await.with_context(|| platform.node.log())?;
        let listed = platform.flynn(&["apps"])?;
        for app in apps {
            ensure!(listed.contains(&app), "{app} is not in {listed}");
        }
        let found = registry.instances("many").await?;
        for addr in registered {
            ensure!(found.iter().any(|one| one.addr == addr), "{addr} is gone");
        }
        let counted = load.stop()?;
        ensure!(counted.answered > 0 && counted.failed.is_empty(), "{counted:?}");
        Ok(())
    });
}

/// Not a byte is left.
fn fill(platform: &Platform) -> anyhow::Result<()> {
    let filler = platform.node.data_dir().join("filler");
    for block in ["bs=1M", "bs=4k"] {
        let mut dd = platform.node.host.command("dd");
        dd.args(["if=/dev/zero", block, "oflag=append", "conv=notrunc", "status=none"]);
        let done = dd.arg(format!("of={}", filler.display())).output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(said.contains("No space left"), "{said}");
    }
    Ok(())
}

fn empty(platform: &Platform) -> anyhow::Result<()> {
    let filler = platform.node.data_dir().join("filler");
    platform.node.success(platform.node.host.command("rm").arg(filler))
}

/// The names of the apps that were made.
fn apps_until_refused(platform: &Platform) -> anyhow::Result<Vec<String>> {
    let mut made = Vec::new();
    for number in 0..TRIES {
        let name = format!("more-{number}");
        let create = platform.flynn(&["create", "--remote", "", &name]);
        match create {
            Ok(_) => made.push(name),
            Err(error) => {
                let reason = format!("{error:#}");
                ensure!(reason.contains("database is not available"), "{reason}");
                return Ok(made);
            }
        }
    }
    bail!("{TRIES} apps on a full disk")
}

async fn jobs_until_refused(platform: &Platform) -> anyhow::Result<()> {
    let mut reason = String::new();
    let refused = until("jobs are refused", async || {
        let Ok(run) = platform.node.job(&["limits"]).await else { return false };
        let Err(error) = platform.node.client.add_job(&run.job).await else { return false };
        reason = format!("{error:?}");
        // Four in the making at a time is as many as there may be, on any disk.
        !reason.contains("RateLimited")
    });
    refused.await.with_context(|| reason.clone())?;
    ensure!(reason.contains("No space left"), "{reason}");
    Ok(())
}

/// The addresses that were acknowledged.
async fn registrations_until_refused(registry: &Client) -> anyhow::Result<Vec<String>> {
    let mut acknowledged = Vec::new();
    for number in 0..TRIES {
        let instance = Instance::new("tcp", &format!("10.0.0.1:{}", 1000 + number));
        let instance = instance.with_meta("much", &"x".repeat(4 << 10));
        match registry.put_instance("many", &instance).await {
            Ok(_) => acknowledged.push(instance.addr),
            Err(_) => return Ok(acknowledged),
        }
    }
    bail!("{TRIES} registrations on a full disk")
}

/// Every part that writes does so again.
async fn works_again(platform: &Platform, registry: &Client) -> anyhow::Result<()> {
    let mut last = Ok(());
    let works = until("discoverd takes registrations", async || {
        let instance = Instance::new("tcp", "10.0.0.2:1");
        last = registry.put_instance("many", &instance).await.map(drop);
        last.is_ok()
    });
    works.await.with_context(|| format!("{last:?}"))?;
    let mut last = Ok(String::new());
    let works = until("the controller makes apps", async || {
        last = platform.flynn(&["create", "--remote", "", "after"]);
        last.is_ok()
    });
    works.await.with_context(|| format!("{last:?}"))?;
    until("jobs start", async || {
        let asked = platform.flynn(&["-a", "hello", "scale", "-n", "web=3"]);
        let listed = platform.flynn(&["-a", "hello", "ps"]).unwrap_or_default();
        asked.is_ok() && listed.lines().filter(|line| line.contains(" up ")).count() == 3
    })
    .await
}
