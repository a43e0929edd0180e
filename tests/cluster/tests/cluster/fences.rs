//! What a user's job can reach of a running platform, and what it cannot (design.md D5).

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use cluster_tests::{Platform, on_shared_platform};
use discoverd_api::{Client, Servers};

/// Services of the platform that user jobs have no business with.
const CLOSED: [&str; 8] = [
    "controller",
    "controller-scheduler",
    "controller-worker",
    "gitreceive",
    "blobstore",
    "logaggregator",
    "postgres-api",
    "discoverd",
];

async fn addresses(registry: &Client, service: &str) -> anyhow::Result<Vec<String>> {
    let instances = registry.instances(service).await?;
    ensure!(!instances.is_empty(), "no instance of {service}");
    Ok(instances.into_iter().map(|instance| instance.addr).collect())
}

async fn expectations(platform: &Platform) -> anyhow::Result<BTreeMap<String, bool>> {
    let registry = Client::new(&Servers::parse("http://127.0.0.1:1111"))?;
    let mut open = BTreeMap::new();
    for service in CLOSED {
        for address in addresses(&registry, service).await? {
            open.insert(address, false);
        }
    }
    let host = platform.node.host.ip;
    let network = platform.node.client.status().await?.network.context("no network")?;
    let bridge = network.subnet.split('/').next().unwrap_or_default().to_owned();
    for port in [1111, 1113, 5002] {
        open.insert(format!("{host}:{port}"), false);
        open.insert(format!("{bridge}:{port}"), false);
    }
    for port in [80, 443] {
        open.insert(format!("{host}:{port}"), true);
    }
    for address in addresses(&registry, "postgres").await? {
        open.insert(address, true);
    }
    Ok(open)
}

#[test]
fn a_user_job_reaches_router_and_databases_and_nothing_else_of_the_platform() {
    on_shared_platform(async |platform| {
        let expected = expectations(&platform).await?;
        let mut words = vec!["dial"];
        words.extend(expected.keys().map(String::as_str));
        let output = platform.node.run(&platform.node.job(&words).await?).await?;
        let text = output.text();
        let found: BTreeMap<String, bool> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(address, word)| (address.to_owned(), word == "open"))
            .collect();
        ensure!(found == expected, "expected {expected:#?}\nfound {found:#?}");
        Ok(())
    });
}
