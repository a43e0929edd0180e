//! Processor time per request: the platform's router with its real table, nginx and HAProxy, one after
//! the other before the same job, 64 connections kept alive, answers of 1 KiB.

use anyhow::Context as _;
use cluster_tests::{DOMAIN, Node, Platform, on_platform, until};
use discoverd_api::{Client, Servers};
use serde_json::json;

use crate::figures::{self, Series};
use crate::proxies::{Proxy, haproxy, nginx};

struct Contender {
    name: &'static str,
    port: u16,
    cost: Series,
    rate: Series,
}

pub(crate) fn measure(rounds: usize, seconds: u64) {
    on_platform("bench", async |platform| {
        let backend = backend(&platform).await?;
        let dir = tempfile::Builder::new().prefix("flynn-t-proxies-").tempdir()?;
        let node = &platform.node;
        let peers = [nginx(node, dir.path(), &backend)?, haproxy(node, dir.path(), &backend)?];
        let mut all = vec![contender("router", 80)];
        all.extend(peers.iter().map(|peer: &Proxy| contender(peer.name, peer.port)));
        for port in all.iter().map(|one| one.port) {
            let page = format!("http://page.{DOMAIN}:{port}/");
            until("the proxy answers", async || platform.fetch(&page).is_ok()).await?;
        }
        for _ in 0..rounds {
            for one in &mut all {
                let before = processor_time(node, one.name);
                let requests = load(node, one.port, seconds)?;
                let spent = processor_time(node, one.name) - before;
                one.cost.add(spent * 1e6 / requests);
                one.rate.add(requests / seconds as f64);
            }
        }
        for one in &all {
            println!(
                "router, {}: {} at {}",
                one.name,
                one.cost.tell("µs/request"),
                one.rate.tell("requests/s")
            );
        }
        if let [router, nginx, ..] = all.as_slice() {
            let ratio = router.cost.median() / nginx.cost.median();
            println!("router, ratio of medians to nginx: {ratio:.2}");
        }
        drop(peers);
        Ok(())
    });
}

fn contender(name: &'static str, port: u16) -> Contender {
    Contender { name, port, cost: Series::default(), rate: Series::default() }
}

/// An app with one job; gives the job's address.
async fn backend(platform: &Platform) -> anyhow::Result<String> {
    let port = json!({"port": 8080, "proto": "tcp", "service": {
        "name": "page-web", "create": true, "check": {"type": "tcp"}}});
    let web = json!({"args": ["/bin/test-apps", "page"], "ports": [port]});
    platform.app("page", &json!({ "web": web })).await?;
    platform.flynn(&["-a", "page", "scale", "web=1"])?;
    let registry = Client::new(&Servers::parse("http://127.0.0.1:1111"))?;
    let instances = registry.instances("page-web").await?;
    Ok(instances.first().context("no instance of the page")?.addr.clone())
}

/// Seconds of processor time all processes of a proxy have had.
fn processor_time(node: &Node, name: &str) -> f64 {
    let pids = if name == "router" {
        node.host.pids_in_jobs("flynn-core", "router")
    } else {
        node.host.pids(name)
    };
    pids.into_iter().filter_map(figures::processor_time).sum()
}

/// Requests answered under load.
fn load(node: &Node, port: u16, seconds: u64) -> anyhow::Result<f64> {
    let mut command = node.host.command("wrk");
    command.args(["-t2", "-c64", &format!("-d{seconds}s"), "-H", &format!("Host: page.{DOMAIN}")]);
    let done = command.arg(format!("http://127.0.0.1:{port}/")).output().context("wrk")?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let count = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    let count = count.and_then(|(count, _)| count.parse().ok());
    count.with_context(|| format!("wrk said: {text}"))
}
