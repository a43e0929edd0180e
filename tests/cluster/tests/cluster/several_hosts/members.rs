//! Hosts that join, vote, are replaced and leave.

use anyhow::{Context as _, ensure};
use cluster_tests::{Cluster, Node, binaries, until};

use super::WANTED;
use super::whole::{EVERYWHERE, jobs_on, loads, logs, name, stop, until_whole, web_on};

/// A single host becomes three while its only job serves. What there is one of on a single host is scaled,
/// and the app has a job on each.
pub(super) async fn one_becomes_three(cluster: &mut Cluster) -> anyhow::Result<()> {
    come_and_vote(cluster, WANTED).await?;
    cluster.platform.flynn(&["-a", "controller", "scale", "web=2", "worker=2"])?;
    let two = [
        ("postgres", "web=2"),
        ("gitreceive", "app=2"),
        ("blobstore", "web=2"),
        ("logaggregator", "app=2"),
    ];
    for (app, scale) in two {
        cluster.platform.flynn(&["-a", app, "scale", scale])?;
    }
    let scale = format!("web={WANTED}");
    cluster.platform.flynn(&["-a", "hello", "scale", &scale])?;
    until_whole(cluster, "one host became three").await?;
    vote_and_share_the_work(cluster)
}

/// Three voters, one of which leads, and a job of the app on each host.
fn vote_and_share_the_work(cluster: &Cluster) -> anyhow::Result<()> {
    let votes: Vec<_> = cluster.nodes().map(|node| vote(cluster, &node.host.id)).collect();
    let leaders = votes.iter().filter(|vote| *vote == "peer (leader)").count();
    let peers = votes.iter().filter(|vote| *vote == "peer").count();
    ensure!((leaders, peers) == (1, 2), "{votes:?}");
    for node in cluster.nodes() {
        ensure!(web_on([node])?.len() == 1, "not one job on {}\n{}", node.host.id, logs(cluster));
    }
    Ok(())
}

/// Hosts come and vote until there are so many voters, under load.
pub(super) async fn come_and_vote(cluster: &mut Cluster, wanted: usize) -> anyhow::Result<()> {
    let loads = loads(&cluster.nodes().collect::<Vec<_>>())?;
    while cluster.nodes().count() < wanted {
        cluster.add().await?;
        let node = cluster.others.last().context("it was just added")?;
        until_joined(cluster, node).await?;
        ensure!(vote(cluster, &node.host.id) == "proxy", "a new host votes");
        until_told(cluster, "promote", node).await?;
        until("it votes", async || vote(cluster, &node.host.id).starts_with("peer")).await?;
    }
    let all = until("all vote", async || voters(cluster) == wanted).await;
    all.with_context(|| format!("{:?}\n{}", cluster.operator(&["list"]), logs(cluster)))?;
    stop(loads, 0)
}

/// A voter is lost for good and replaced by a new host with its address; it and another one give their
/// votes back, are emptied and leave. All under load.
pub(super) async fn one_is_replaced_and_two_leave(cluster: &mut Cluster) -> anyhow::Result<()> {
    let loads = loads(&cluster.nodes().take(WANTED).collect::<Vec<_>>())?;
    // Another machine in its place: the same address, nothing on its disk.
    let peers: Vec<_> = cluster.nodes().map(|node| node.host.ip).collect();
    let dead = cluster.others.last_mut().context("five hosts")?;
    dead.turn_off()?;
    dead.lose_disk()?;
    dead.host.init(&binaries()?, &peers)?;
    dead.start_daemon().await?;
    let replaced = cluster.others.last().context("five hosts")?;
    until_joined(cluster, replaced).await.context("the replaced one")?;
    until_told(cluster, "promote", replaced).await?;
    until("the replaced one votes", async || {
        vote(cluster, &replaced.host.id).starts_with("peer") && voters(cluster) == 5
    })
    .await
    .with_context(|| logs(cluster))?;

    while cluster.others.len() >= WANTED {
        let node = cluster.others.last().context("there is one")?;
        let (id, ip) = (node.host.id.clone(), node.host.ip.to_string());
        until_told(cluster, "demote", node).await?;
        until("it votes no longer", async || vote(cluster, &id) == "proxy").await?;
        cluster.operator(&["drain", &id])?;
        until("its jobs run elsewhere", async || {
            let jobs = jobs_on(node).unwrap_or_default();
            jobs.iter().all(|job| EVERYWHERE.contains(&name(job).0))
        })
        .await
        .with_context(|| logs(cluster))?;
        cluster.others.last_mut().context("there is one")?.turn_off()?;
        cluster.operator(&["forget", &ip])?;
        cluster.others.pop();
    }
    until_whole(cluster, "hosts came and went").await?;
    stop(loads, 0)
}

/// Has a host's vote changed; while discoverd changes its leader that is refused and asked again.
async fn until_told(cluster: &Cluster, what: &str, node: &Node) -> anyhow::Result<()> {
    let mut last = Ok(String::new());
    let told = until("a vote is changed", async || {
        last = cluster.operator(&[what, &node.host.ip.to_string()]);
        last.is_ok()
    });
    told.await.with_context(|| format!("{last:?}"))
}

async fn until_joined(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    let joined = until("a new host has its parts of the platform", async || {
        let jobs = jobs_on(node).unwrap_or_default();
        EVERYWHERE.iter().all(|part| jobs.iter().any(|job| name(job).0 == *part))
            && node.get("http://127.0.0.1:1111/ping").is_ok()
            && !vote(cluster, &node.host.id).is_empty()
    });
    joined.await.with_context(|| logs(cluster))
}

/// What `flynn-host list` says of a host's vote; nothing where it does not list the host.
fn vote(cluster: &Cluster, id: &str) -> String {
    let listed = cluster.operator(&["list"]).unwrap_or_default();
    let row = listed.lines().find(|line| line.split_whitespace().next() == Some(id));
    let words = row.unwrap_or_default().split_whitespace().skip(2);
    words.collect::<Vec<_>>().join(" ")
}

/// How many vote.
fn voters(cluster: &Cluster) -> usize {
    cluster.nodes().filter(|node| vote(cluster, &node.host.id).starts_with("peer")).count()
}
