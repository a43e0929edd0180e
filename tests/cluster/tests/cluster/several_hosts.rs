//! Three hosts from nothing: one platform over all of them, with images on the first one only. A fourth
//! one comes, is used, votes, is emptied and goes.

use anyhow::{Context as _, ensure};
use cluster_tests::{Cluster, DOMAIN, Node, on_cluster, until};
use serde_json::json;

/// The apps of which the host runs a job.
async fn apps_on(node: &Node) -> Vec<String> {
    let jobs = node.client.active_jobs().await.unwrap_or_default();
    let apps = jobs.values().filter_map(|active| active.job.meta("flynn-controller.app_name"));
    apps.map(str::to_owned).collect()
}

/// On how many hosts jobs of the app run.
async fn hosts_of(cluster: &Cluster, app: &str) -> usize {
    let mut count = 0;
    for node in cluster.nodes() {
        count += usize::from(apps_on(node).await.iter().any(|name| name == app));
    }
    count
}

/// What `flynn-host list` says of a host's vote; nothing where it does not list the host.
fn vote(cluster: &Cluster, id: &str) -> String {
    let listed = cluster.operator(&["list"]).unwrap_or_default();
    let row = listed.lines().find(|line| line.split_whitespace().next() == Some(id));
    let words = row.unwrap_or_default().split_whitespace().skip(2);
    words.collect::<Vec<_>>().join(" ")
}

/// An app with a page, and so many jobs of it.
async fn hello(cluster: &Cluster, jobs: usize) -> anyhow::Result<String> {
    let port = json!({"port": 8080, "proto": "tcp", "service": {
        "name": "hello-web", "create": true, "check": {"type": "tcp"}}});
    let web = json!({"args": ["/bin/test-apps", "hello"], "ports": [port]});
    cluster.platform.app("hello", &json!({ "web": web })).await?;
    let scaled = cluster.platform.flynn(&["-a", "hello", "scale", &format!("web={jobs}")])?;
    ensure!(scaled.contains("scale completed"), "{scaled}");
    Ok(format!("http://hello.{DOMAIN}/"))
}

async fn page_is_on(cluster: &Cluster, node: &Node, page: &str) -> anyhow::Result<()> {
    let mut last = Ok(String::new());
    let there = until("the host's router answers", async || {
        last = cluster.fetch_on(node, page);
        last.is_ok()
    });
    there.await.with_context(|| format!("{last:?}"))?;
    ensure!(last?.contains("Hello from Flynn"), "not the page");
    Ok(())
}

#[test]
fn three_hosts_are_one_platform() {
    on_cluster("three", 3, async |cluster| {
        let votes: Vec<_> = cluster.nodes().map(|node| vote(&cluster, &node.host.id)).collect();
        let leaders = votes.iter().filter(|vote| *vote == "peer (leader)").count();
        let peers = votes.iter().filter(|vote| *vote == "peer").count();
        ensure!((leaders, peers) == (1, 2), "{votes:?}");
        let page = hello(&cluster, 3).await?;
        until("a job runs on every host", async || hosts_of(&cluster, "hello").await == 3).await?;
        for node in cluster.nodes() {
            page_is_on(&cluster, node, &page).await?;
        }
        Ok(())
    });
}

#[test]
fn a_fourth_host_joins_and_leaves() {
    on_cluster("join", 3, async |mut cluster| {
        cluster.add().await?;
        let fourth = cluster.others.last().context("it was just added")?;
        let (id, ip) = (fourth.host.id.clone(), fourth.host.ip.to_string());
        let wanted = ["discoverd", "flannel", "router", "scheduler"];
        let joined = until("the new host has its parts of the platform", async || {
            let apps = apps_on(fourth).await;
            wanted.iter().all(|app| apps.iter().any(|name| name == app))
                && vote(&cluster, &id) == "proxy"
        });
        joined.await.with_context(|| fourth.log())?;
        let page = hello(&cluster, 4).await?;
        until("it is used", async || hosts_of(&cluster, "hello").await == 4).await?;
        page_is_on(&cluster, fourth, &page).await?;

        cluster.operator(&["promote", &ip])?;
        until("it votes", async || vote(&cluster, &id).starts_with("peer")).await?;
        cluster.operator(&["demote", &ip])?;
        until("it votes no longer", async || vote(&cluster, &id) == "proxy").await?;

        cluster.operator(&["drain", &id])?;
        let emptied = until("its jobs run elsewhere", async || {
            let apps = apps_on(fourth).await;
            apps.iter().all(|app| wanted.contains(&app.as_str()))
        });
        emptied.await.with_context(|| fourth.log())?;
        cluster.others.last_mut().context("it is the last")?.turn_off()?;
        cluster.operator(&["forget", &ip])?;
        page_is_on(&cluster, &cluster.platform.node, &page).await
    });
}
