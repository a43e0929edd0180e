//! What there is on the hosts of a cluster, asked of each of them on itself, and when it is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, ensure};
use cluster_tests::several::in_namespace;
use cluster_tests::{Cluster, Counted, DOMAIN, Load, Node, until};
use discoverd_api::{Client, EventKind, Instance, RaftLeader, Servers};
use host_api::{ActiveJob, Job, JobStatus};
use kit_ids::{HostId, JobId};
use tokio::sync::oneshot;

use super::{WANTED, note};

/// Apps of the platform with one job on every host.
pub(super) const EVERYWHERE: [&str; 4] = ["discoverd", "flannel", "router", "scheduler"];

/// The jobs a host has that have not ended.
pub(super) fn jobs_on(node: &Node) -> anyhow::Result<Vec<ActiveJob>> {
    let all: BTreeMap<String, ActiveJob> = node.ask(1113, "/host/jobs")?;
    let lives = |job: &ActiveJob| matches!(job.status, JobStatus::Starting | JobStatus::Running);
    Ok(all.into_values().filter(lives).collect())
}

/// What the controller calls a job: its app and its process type.
pub(super) fn name(job: &ActiveJob) -> (&str, &str) {
    let meta = |key| job.job.meta(key).unwrap_or_default();
    (meta("flynn-controller.app_name"), meta("flynn-controller.type"))
}

/// The addresses of the app's running jobs on these hosts.
pub(super) fn web_on<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for node in nodes {
        for job in jobs_on(node)? {
            if name(&job) == ("hello", "web") && job.status == JobStatus::Running {
                let ip = job.internal_ip.context("a running job has an address")?;
                ensure!(found.insert(format!("{ip}:8080")), "{ip} twice");
            }
        }
    }
    Ok(found)
}

/// How many jobs of this process type of the app these hosts have that have not ended.
pub(super) fn count_of<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    process: &str,
) -> anyhow::Result<usize> {
    let mut count = 0;
    for node in nodes {
        count += jobs_on(node)?.iter().filter(|job| name(job) == ("hello", process)).count();
    }
    Ok(count)
}

/// A job for this host that runs a program of the test-apps image, of layers the host has or finds at another one.
pub(super) async fn job_of(cluster: &Cluster, on: &Node, program: &[&str]) -> anyhow::Result<Job> {
    let mut job = Job::new(JobId::random(&on.host.id.parse::<HostId>()?));
    job.mountspecs = cluster.platform.node.layers("test-apps").await?;
    job.partition = "user".to_owned();
    job.config.args = vec!["/bin/test-apps".to_owned()];
    job.config.args.extend(program.iter().map(|arg| (*arg).to_owned()));
    job.config.disable_log = true;
    Ok(job)
}

/// Waits until the cluster [is whole](is_whole).
pub(super) async fn until_whole(cluster: &Cluster, after: &str) -> anyhow::Result<()> {
    let mut last = Ok(());
    let whole = until("the cluster is whole", async || {
        last = is_whole(cluster);
        last.is_ok()
    });
    let whole = whole.await;
    whole.with_context(|| format!("after {after}: {last:?}\n{}", logs(cluster)))
}

/// As many jobs as wanted, each with an address of its own; every host's discoverd and the controller say
/// the same; every host's router answers; no job of the platform runs twice where it may run once.
fn is_whole(cluster: &Cluster) -> anyhow::Result<()> {
    let web = web_on(cluster.nodes())?;
    ensure!(web.len() == WANTED, "not {WANTED} jobs: {web:?}");
    let mut addresses = BTreeSet::new();
    let mut postgres = 0;
    for node in cluster.nodes() {
        let mut names = BTreeSet::new();
        for job in jobs_on(node)? {
            if let Some(ip) = job.internal_ip.filter(|_| !job.job.config.host_network) {
                ensure!(addresses.insert(ip), "{ip} twice");
            }
            let (app, process) = name(&job);
            postgres += usize::from((app, process) == ("postgres", "postgres"));
            let once = EVERYWHERE.contains(&app);
            let is_first = names.insert((app.to_owned(), process.to_owned()));
            ensure!(is_first || !once, "{app} {process} twice on {}", node.host.id);
        }
        for app in EVERYWHERE {
            ensure!(names.iter().any(|(name, _)| name == app), "no {app} on {}", node.host.id);
        }
        let registered: Vec<Instance> = node.ask(1111, "/services/hello-web/instances")?;
        let registered: BTreeSet<_> = registered.into_iter().map(|one| one.addr).collect();
        ensure!(registered == web, "{} knows {registered:?}, not {web:?}", node.host.id);
        ensure!(page_on(node)?.contains("Hello from Flynn"), "not the page");
    }
    ensure!(postgres == 1, "{postgres} databases");
    let listed = cluster.platform.flynn(&["-a", "hello", "ps"])?;
    let up = listed.lines().filter(|line| line.split_whitespace().any(|word| word == "up")).count();
    ensure!(up == WANTED, "not {WANTED} jobs: {listed}");
    Ok(())
}

/// The app's page from the host's own router.
pub(super) fn page_on(node: &Node) -> anyhow::Result<String> {
    node.get(&format!("http://hello.{DOMAIN}/"))
}

/// Waits until this host's router answers.
pub(super) async fn until_page_on(node: &Node) -> anyhow::Result<()> {
    let mut last = Ok(String::new());
    let there = until("the host's router answers", async || {
        last = page_on(node);
        last.is_ok()
    });
    there.await.with_context(|| format!("{last:?}\n{}\n{}", ways(node), node.log()))
}

/// What this host knows of the app's jobs, and which of them it reaches without a router.
fn ways(node: &Node) -> String {
    let known: anyhow::Result<Vec<Instance>> = node.ask(1111, "/services/hello-web/instances");
    let tried = known.as_ref().map(|known| {
        let try_one =
            |one: &Instance| (one.addr.clone(), node.get(&format!("http://{}/", one.addr)));
        known.iter().map(try_one).collect::<Vec<_>>()
    });
    format!("{}: {tried:?}", node.host.id)
}

/// The address of the host that leads discoverd, as this host knows it.
pub(super) fn raft_leader(node: &Node) -> anyhow::Result<String> {
    let leader: RaftLeader = node.ask(1111, "/raft/leader")?;
    Ok(leader.host.split(':').next().unwrap_or_default().to_owned())
}

/// The place of the host of which `is_it` holds.
pub(super) fn place_of(
    cluster: &Cluster,
    is_it: impl Fn(&Node) -> anyhow::Result<bool>,
) -> anyhow::Result<usize> {
    for (place, node) in cluster.nodes().enumerate() {
        if is_it(node)? {
            return Ok(place);
        }
    }
    anyhow::bail!("it is none of the hosts\n{}", logs(cluster))
}

/// The place of the host whose job this is.
pub(super) fn place_of_job(cluster: &Cluster, app: &str, process: &str) -> anyhow::Result<usize> {
    place_of(cluster, |node| Ok(jobs_on(node)?.iter().any(|job| name(job) == (app, process))))
}

/// The place of the host whose scheduler leads.
pub(super) async fn place_of_leading_scheduler(cluster: &Cluster) -> anyhow::Result<usize> {
    once("a scheduler leads", || leading_scheduler(cluster)).await
}

/// The place of the host whose discoverd leads, as soon as one does.
pub(super) async fn place_of_raft_leader(cluster: &Cluster) -> anyhow::Result<usize> {
    once("a discoverd leads", || {
        let leader = raft_leader(&cluster.platform.node)?;
        place_of(cluster, |node| Ok(node.host.ip.to_string() == leader))
    })
    .await
}

/// What is found, as soon as it can be: on a busy machine a leader may just be changing.
async fn once<T>(what: &str, find: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut found = find();
    until(what, async || {
        if found.is_err() {
            found = find();
        }
        found.is_ok()
    })
    .await?;
    found
}

fn leading_scheduler(cluster: &Cluster) -> anyhow::Result<usize> {
    let leader: Instance =
        cluster.platform.node.ask(1111, "/services/controller-scheduler/leader")?;
    let ip = leader.addr.split(':').next().unwrap_or_default();
    place_of(cluster, |node| {
        let jobs = jobs_on(node)?;
        let mut own = jobs.iter().filter(|job| name(job).0 == "scheduler");
        Ok(own.any(|job| job.internal_ip.is_some_and(|own| own.to_string() == ip)))
    })
}

/// Load on the routers of these hosts, each asked on the host itself.
pub(super) fn loads(nodes: &[&Node]) -> anyhow::Result<Vec<Load>> {
    nodes.iter().map(|node| Load::on(node, &format!("hello.{DOMAIN}"))).collect()
}

/// Ends the loads, each of which may have met only so many failures. One asks one thing at a time.
pub(super) fn stop(loads: Vec<Load>, failures: usize) -> anyhow::Result<()> {
    let all: Vec<Counted> = loads.into_iter().map(Load::stop).collect::<Result<_, _>>()?;
    for counted in all {
        note(&format!("{} answered, {:?} failed", counted.answered, counted.failed));
        ensure!(counted.answered > 0, "nothing was answered");
        ensure!(counted.failed.len() <= failures, "{counted:?}");
    }
    Ok(())
}

/// The ends of all hosts' logs.
pub(super) fn logs(cluster: &Cluster) -> String {
    cluster.nodes().map(|node| format!("{}:\n{}\n", node.host.id, node.log())).collect()
}

/// Instances of a service that are announced down, as one host hears it.
#[derive(Debug)]
pub(super) struct Downs {
    seen: Arc<Mutex<BTreeSet<String>>>,
    thread: JoinHandle<anyhow::Result<()>>,
    end: oneshot::Sender<()>,
}

impl Downs {
    /// Starts listening at a host's own discoverd: to the app's web jobs.
    pub(super) fn on(node: &Node) -> anyhow::Result<Self> {
        Self::of("hello-web", node)
    }

    /// Starts listening at a host's own discoverd.
    pub(super) fn of(service: &'static str, node: &Node) -> anyhow::Result<Self> {
        let (seen, (end, ended)) = (Arc::<Mutex<BTreeSet<String>>>::default(), oneshot::channel());
        let heard = Arc::clone(&seen);
        let listen = async move {
            let client = Client::new(&Servers::parse("http://127.0.0.1:1111"))?;
            let mut watch = client.watch(service);
            let hear = async {
                loop {
                    let event = watch.next().await;
                    if let (EventKind::Down, Some(instance)) = (event.kind, event.instance) {
                        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                        heard.insert(instance.addr);
                    }
                }
            };
            tokio::select! {
                () = hear => {}
                // Whoever asked has enough, or is gone.
                _ = ended => {}
            }
            anyhow::Ok(())
        };
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(listen)
        };
        Ok(Self { seen, thread: in_namespace(node.network()?, run)?, end })
    }

    /// Waits until this one is announced down.
    pub(super) async fn until_down(&self, addr: &str) -> anyhow::Result<()> {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(addr);
        until(&format!("{addr} is announced down"), async || seen()).await
    }

    /// What was announced down.
    pub(super) fn stop(self) -> anyhow::Result<BTreeSet<String>> {
        drop(self.end);
        self.thread.join().map_err(|_panic| anyhow::anyhow!("the watch did not end well"))??;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(seen.clone())
    }
}
