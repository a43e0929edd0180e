//! Several schedulers want the room of the same hosts: Flynn's own, and the example batch scheduler, twice.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::{Child, Stdio};

use anyhow::{Context as _, bail, ensure};
use cluster_tests::{Cluster, binaries, until};
use controller_api::reserved;
use host_api::{HostStatus, ResourceKind};
use kit_ids::JobId;

use super::whole::{count_of, job_of, jobs_on, logs, until_whole};
use super::{Times, note, tenth_of_a_host};

/// Jobs of the app that come while the batches run, and stay.
const SERVICES: usize = 6;

/// What marks the jobs of a batch.
const MARK: &str = "batch";

/// Both batches and the app want more than there is room for. No host ever promises more than it has, and
/// all come to their end.
pub(super) async fn schedulers_share_hosts(cluster: &Cluster, times: Times) -> anyhow::Result<()> {
    let mut batches = [start(cluster, times.batch).await?, start(cluster, times.batch).await?];
    let services = format!("busy={SERVICES}");
    cluster.platform.flynn(&["-a", "hello", "scale", "--no-wait", &services])?;
    let mut seen = Seen::default();
    loop {
        let before = seen.batch.len();
        until("the batches go on or have ended", async || {
            let looked = seen.look(cluster).is_ok();
            let ended = batches.iter_mut().all(|one| matches!(one.try_wait(), Ok(Some(_))));
            let done = looked && ended && seen.services == SERVICES;
            done || seen.batch.len() > before || seen.too_much.is_some()
        })
        .await
        .with_context(|| format!("{seen:?}\n{}", logs(cluster)))?;
        ensure!(seen.too_much.is_none(), "{seen:?}");
        if seen.batch.len() == before {
            break;
        }
    }
    let mut refused = 0;
    for batch in batches {
        refused += end(batch, times.batch)?;
    }
    note(&format!(
        "two batches of {} and {SERVICES} services: {}% of a host's processors promised at most, hosts \
         refused {refused} times",
        times.batch, seen.most
    ));
    // Another job would have found no room: a busy one is a tenth.
    ensure!(seen.most > 90, "they did not want more than there is: {seen:?}");
    ensure!(seen.batch.len() <= 2 * times.batch, "{} jobs", seen.batch.len());
    cluster.platform.flynn(&["-a", "hello", "scale", "busy=0"])?;
    until_whole(cluster, "schedulers shared the hosts").await
}

/// What was seen of the hosts.
#[derive(Debug, Default)]
struct Seen {
    /// Jobs of batches, also those that have ended.
    batch: BTreeSet<JobId>,
    /// How many of the app's there are now.
    services: usize,
    /// What a host promised at most of its processors, in percent.
    most: u64,
    /// A host that promised more than it has.
    too_much: Option<String>,
}

impl Seen {
    /// Looks once more at every host. One that does not answer in time is looked at again.
    fn look(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        for node in cluster.nodes() {
            let status: HostStatus = node.ask(1113, "/host/status")?;
            let cpu = status.resources.context("a host knows what it has")?.cpu;
            let jobs = jobs_on(node)?;
            // Counted without the host's own ledger.
            let held: u64 = jobs.iter().map(|job| reserved(&job.job.resources).1).sum();
            if held.max(cpu.reserved) > cpu.total {
                self.too_much = Some(format!("{}: {held} held, {cpu:?}", node.host.id));
            }
            self.most = self.most.max(held * 100 / cpu.total.max(1));
            let of_batches = jobs.into_iter().filter(|job| job.job.meta(MARK).is_some());
            self.batch.extend(of_batches.map(|job| job.job.id));
        }
        self.services = count_of(cluster.nodes(), "busy")?;
        Ok(())
    }
}

/// Starts a batch scheduler of so many jobs on the first host.
async fn start(cluster: &Cluster, count: usize) -> anyhow::Result<Child> {
    let first = &cluster.platform.node;
    let mut job = job_of(cluster, first, &["paced", "2", "1"]).await?;
    job.metadata.insert(MARK.to_owned(), "yes".to_owned());
    job.resources.set(ResourceKind::Memory, Some(16 << 20), Some(64 << 20));
    let cpu = Some(tenth_of_a_host());
    job.resources.set(ResourceKind::Cpu, cpu, cpu);
    let file = first.host.dir.join("batch.json");
    std::fs::write(&file, serde_json::to_string(&job)?)?;
    let mut batch = first.host.command(binaries()?.join("examples/batch"));
    batch.arg(file).arg(count.to_string());
    batch.args(cluster.nodes().map(|node| format!("http://{}:1113", node.host.ip)));
    Ok(batch.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

/// How often hosts refused a job of a batch that has ended.
fn end(mut batch: Child, count: usize) -> anyhow::Result<usize> {
    let mut said = String::new();
    batch.stdout.take().context("it is read")?.read_to_string(&mut said)?;
    let status = batch.wait()?;
    ensure!(status.success(), "{status}: {said}");
    let words: Vec<_> = said.split_whitespace().collect();
    match words[..] {
        [ended, "jobs", "ended;", "hosts", "refused", refused, "times"]
            if ended.parse() == Ok(count) =>
        {
            Ok(refused.parse()?)
        }
        _ => bail!("{said}"),
    }
}
