//! Many sleeping jobs at once: they all run, spread over the hosts, and leave nothing.

use anyhow::{Context as _, ensure};
use cluster_tests::{Cluster, Counts, until};

use super::whole::{count_of, logs, until_whole};
use super::{Times, note};

pub(super) async fn comes_and_goes(cluster: &Cluster, times: Times) -> anyhow::Result<()> {
    // Whatever is made once and kept is made by the first few.
    scale(cluster, 6).await?;
    scale(cluster, 0).await?;
    let nodes: Vec<_> = cluster.nodes().collect();
    let counts = || nodes.iter().map(|node| Counts::now(node)).collect::<Vec<_>>();
    until("what the next jobs will find ready is there", async || {
        nodes.iter().all(|node| Counts::now(node).is_ready())
    })
    .await
    .with_context(|| format!("{:?}", counts()))?;
    let before = counts();
    scale(cluster, times.crowd).await?;
    for node in cluster.nodes() {
        let here = count_of([node], "sleeper")?;
        note(&format!("{here} on {}", node.host.id));
        ensure!(here > 0, "none of {} run on {}", times.crowd, node.host.id);
    }
    scale(cluster, 0).await?;
    for (node, before) in nodes.iter().zip(before) {
        until("nothing has grown", async || Counts::now(node).is_within(&before))
            .await
            .with_context(|| format!("{:?} now, {before:?}", Counts::now(node)))?;
    }
    until_whole(cluster, "many jobs came and went").await
}

async fn scale(cluster: &Cluster, count: usize) -> anyhow::Result<()> {
    let to = format!("sleeper={count}");
    cluster.platform.flynn(&["-a", "hello", "scale", "--no-wait", &to])?;
    // However many there are, as long as they become more (or fewer) it goes on.
    let mut last = None;
    while last != Some(count) {
        let before = last;
        until(&format!("more of {count} sleepers change, {before:?} run"), async || {
            last = count_of(cluster.nodes(), "sleeper").ok();
            last != before || last == Some(count)
        })
        .await
        .with_context(|| {
            format!("{:?}\n{}", cluster.platform.flynn(&["-a", "hello", "ps"]), logs(cluster))
        })?;
    }
    Ok(())
}
