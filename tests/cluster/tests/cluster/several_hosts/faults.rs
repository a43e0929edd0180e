//! What is done to hosts.

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, ensure};
use cluster_tests::{Cluster, Node, until};
use host_api::{HostHealth, Job};
use kit_ids::{HostId, JobId};

use super::whole::{
    Downs, job_of, jobs_on, loads, logs, name, place_of, place_of_job, place_of_leading_scheduler,
    place_of_raft_leader, raft_leader, stop, until_page_on, until_whole, web_on,
};
use super::{Times, WANTED, note};

/// After a host was silent for so long its jobs run elsewhere; the scheduler's default.
const LOST_AFTER: f32 = 30.0;

/// Connections a router may hold to the jobs of one host, each of which may cost a request when the host is
/// gone without a word: its workers keep one or two for each job.
const HELD: usize = 4;

/// All hosts but this one.
fn others(cluster: &Cluster, place: usize) -> Vec<&Node> {
    let all = cluster.nodes().enumerate();
    all.filter(|(at, _)| *at != place).map(|(_, node)| node).collect()
}

fn node(cluster: &Cluster, place: usize) -> anyhow::Result<&Node> {
    cluster.nodes().nth(place).context("no such host")
}

/// The host of discoverd's leader, and where there is one the scheduler's, reaches nobody until its jobs
/// run elsewhere. When it is back there are as many as before, and nobody else was announced down.
pub(super) async fn leaders_host_is_cut_off(cluster: &Cluster, times: Times) -> anyhow::Result<()> {
    let database = place_of_job(cluster, "postgres", "postgres")?;
    let place = leader_apart_from(cluster, database).await?;
    let (cut, rest) = (node(cluster, place)?, others(cluster, place));
    let there = web_on([cut])?;
    let (loads, downs) = (loads(&rest)?, Downs::on(rest[0])?);
    let started = Instant::now();
    // The others go together, and reach each other.
    let together: Vec<_> = rest.iter().map(|node| node.host.id.as_str()).collect();
    cluster.network.partition(&together)?;
    until("the others have a leader of their own", async || {
        raft_leader(rest[0]).is_ok_and(|leader| leader != cut.host.ip.to_string())
    })
    .await?;
    note(&format!("another leader after {:.1} s", started.elapsed().as_secs_f32()));
    // There its own jobs answer, once its router knows that the others' cannot be reached.
    until_page_on(cut).await?;
    until("all jobs run on the hosts that are left", async || {
        web_on(rest.iter().copied()).is_ok_and(|web| web.len() == WANTED)
    })
    .await
    .with_context(|| logs(cluster))?;
    let elsewhere = started.elapsed().as_secs_f32();
    note(&format!(
        "lost jobs run elsewhere after {elsewhere:.1} s, {LOST_AFTER} s of which decide"
    ));
    if times.long {
        let rest = std::time::Duration::from_secs(120).saturating_sub(started.elapsed());
        tokio::time::sleep(rest).await;
    }
    cluster.network.heal()?;
    until_whole(cluster, "discoverd's leader was cut off").await?;
    let down = downs.stop()?;
    // What ran on the lost host, and one too many that is stopped when it is back.
    let gone: BTreeSet<_> = &down - &there;
    let now = web_on(cluster.nodes())?;
    ensure!(gone.is_disjoint(&now), "{gone:?} of {there:?} down, {now:?} are there");
    stop(loads, HELD)
}

/// The place of discoverd's leader, which shall not be this one: as long as it is, its server is killed.
async fn leader_apart_from(cluster: &Cluster, place: usize) -> anyhow::Result<usize> {
    let found = || {
        let leader = raft_leader(&cluster.platform.node)?;
        place_of(cluster, |node| Ok(node.host.ip.to_string() == leader))
    };
    let mut leader = found();
    until("another host leads", async || {
        if matches!(leader, Ok(leader) if leader == place) {
            let Ok(node) = node(cluster, place) else { return false };
            // It is not there for a moment after the last time.
            drop(node.host.signal("discoverd", libc::SIGKILL));
        }
        leader = found();
        matches!(leader, Ok(leader) if leader != place)
    })
    .await?;
    let found = leader?;
    until_whole(cluster, "another host leads").await?;
    Ok(found)
}

/// The database's host ends, until it is announced down, and no other host is. Apps serve on, the control
/// plane says what is missing, and is whole when the host is back.
pub(super) async fn databases_host_is_lost(
    cluster: &mut Cluster,
    times: Times,
) -> anyhow::Result<()> {
    let place = place_of_job(cluster, "postgres", "postgres")?;
    let lost = format!("{}:1113", node(cluster, place)?.host.ip);
    let (loads, downs) =
        (loads(&others(cluster, place))?, Downs::of("flynn-host", others(cluster, place)[0])?);
    let started = Instant::now();
    cluster.node_mut(place)?.turn_off()?;
    let rest = others(cluster, place);
    let mut said = String::new();
    until("flynn says what is missing", async || {
        said = match cluster.flynn_on(rest[0], &["apps"]) {
            Ok(listed) => listed,
            Err(error) => format!("{error:#}"),
        };
        said.contains("database is not available")
    })
    .await
    .with_context(|| said.clone())?;
    for node in &rest {
        until_page_on(node).await.with_context(|| logs(cluster))?;
    }
    downs.until_down(&lost).await.with_context(|| logs(cluster))?;
    if times.long {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    }
    let off = started.elapsed();
    cluster.node_mut(place)?.start_daemon().await?;
    let back = Instant::now();
    until_whole(cluster, "the database's host was lost").await?;
    let down = downs.stop()?;
    ensure!(down == BTreeSet::from([lost]), "hosts announced down: {down:?}");
    note(&format!(
        "whole {:.1} s after the host was back from {:.1} s",
        back.elapsed().as_secs_f32(),
        off.as_secs_f32()
    ));
    stop(loads, HELD)
}

/// A host that neither leads nor holds the database comes and goes: nobody else is announced down and no
/// request fails that did not touch it.
pub(super) async fn host_comes_and_goes(cluster: &Cluster, times: Times) -> anyhow::Result<()> {
    let database = place_of_job(cluster, "postgres", "postgres")?;
    let leader = place_of_raft_leader(cluster).await?;
    let mut nodes = cluster.nodes().enumerate();
    let place = nodes.find(|(place, _)| *place != database && *place != leader);
    let (place, flapping) = place.context("three hosts")?;
    let (rest, there) = (others(cluster, place), web_on([flapping])?);
    let (loads, downs) = (loads(&rest)?, Downs::on(rest[0])?);
    for _ in 0..times.flaps {
        cluster.network.partition(&[&flapping.host.id])?;
        tokio::time::sleep(times.flap).await;
        cluster.network.heal()?;
        tokio::time::sleep(times.flap).await;
    }
    until_whole(cluster, "a host came and went").await?;
    let down = downs.stop()?;
    ensure!(down.is_subset(&there), "{down:?} down, on the host were {there:?}");
    stop(loads, HELD)
}

/// discoverd, the daemon and the scheduler of a host stand still for longer than a registration lives.
/// Nobody restarts anything for it, and no request fails.
pub(super) async fn processes_stand_still(cluster: &Cluster, times: Times) -> anyhow::Result<()> {
    for process in ["discoverd", "flynn-host", "scheduler"] {
        // The discoverd and the scheduler that lead; any daemon.
        let place = match process {
            "discoverd" => place_of_raft_leader(cluster).await?,
            "scheduler" => place_of_leading_scheduler(cluster).await?,
            _ => 1,
        };
        let (standing, rest) = (node(cluster, place)?, others(cluster, place));
        let before = everything(cluster)?;
        let (loads, downs) = (loads(&rest)?, Downs::on(rest[0])?);
        standing.host.freeze(process)?;
        tokio::time::sleep(times.frozen).await;
        standing.host.thaw(process)?;
        until_whole(cluster, &format!("{process} stood still")).await?;
        let down = downs.stop()?;
        ensure!(down.is_empty(), "{process} stood still and {down:?} were announced down");
        let after = everything(cluster)?;
        ensure!(before == after, "{process} stood still: {before:?} became {after:?}");
        stop(loads, 0).with_context(|| format!("{process} stood still"))?;
    }
    Ok(())
}

/// Controller, scheduler, database and discoverd stand still on all hosts at once: pages are answered as
/// before, and when all go on nothing was announced down and nothing was restarted.
pub(super) async fn control_plane_stands_still(
    cluster: &Cluster,
    times: Times,
) -> anyhow::Result<()> {
    let nodes: Vec<_> = cluster.nodes().collect();
    let before = everything(cluster)?;
    let (loads, downs) = (loads(&nodes)?, Downs::on(nodes[0])?);
    for process in ["controller", "scheduler", "postgres", "discoverd"] {
        for node in nodes.iter().filter(|node| !node.host.processes(process).is_empty()) {
            node.host.freeze(process)?;
        }
    }
    tokio::time::sleep(times.frozen).await;
    // In no good order: who asks goes on before who answers.
    for process in ["controller", "scheduler", "discoverd", "postgres"] {
        for node in nodes.iter().filter(|node| !node.host.processes(process).is_empty()) {
            node.host.thaw(process)?;
        }
    }
    until_whole(cluster, "the control plane stood still").await?;
    let down = downs.stop()?;
    ensure!(down.is_empty(), "{down:?} were announced down");
    let after = everything(cluster)?;
    ensure!(before == after, "{before:?} became {after:?}");
    stop(loads, 0)
}

/// The wall clocks of everything on the host of discoverd's leader are an hour ahead, and right again; then those
/// of the host where the scheduler leads an hour behind. Nothing expires, and nothing is restarted.
pub(super) async fn clocks_are_wrong(cluster: &Cluster, times: Times) -> anyhow::Result<()> {
    let of_leader = place_of_raft_leader(cluster).await?;
    for (place, seconds) in [(of_leader, 3600), (place_of_leading_scheduler(cluster).await?, -3600)]
    {
        let what = format!("a clock was {seconds} s off");
        let (wrong, before) = (node(cluster, place)?, everything(cluster)?);
        let nodes: Vec<_> = cluster.nodes().collect();
        let (loads, downs) = (loads(&nodes)?, Downs::on(nodes[(place + 1) % nodes.len()])?);
        wrong.host.set_clock(seconds)?;
        let off = seconds_ahead(wrong)?;
        ensure!((off - i64::from(seconds)).abs() < 60, "{off} s off, not {seconds}");
        let said = cluster.platform.node.operator(&["doctor", "--json"])?.output()?.stdout;
        ensure!(String::from_utf8_lossy(&said).contains("clock-skew"), "the doctor sees it");
        tokio::time::sleep(times.frozen).await;
        until_whole(cluster, &what).await?;
        wrong.host.set_clock(0)?;
        ensure!(seconds_ahead(wrong)?.abs() < 60, "the clock is right again");
        tokio::time::sleep(times.frozen).await;
        until_whole(cluster, &format!("{what} and right again")).await?;
        let down = downs.stop()?;
        ensure!(down.is_empty(), "{what} and {down:?} were announced down");
        let after = everything(cluster)?;
        ensure!(before == after, "{what}: {before:?} became {after:?}");
        stop(loads, 0).context(what)?;
    }
    Ok(())
}

/// How far a daemon's clock is ahead of ours.
fn seconds_ahead(node: &Node) -> anyhow::Result<i64> {
    let health: HostHealth = node.ask(1113, "/host/health")?;
    let there = health.now.wall().context("a time")?.since_epoch();
    let here = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(i64::try_from(there.as_secs())? - i64::try_from(here.as_secs())?)
}

/// All jobs of all hosts, by name and id.
fn everything(cluster: &Cluster) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for node in cluster.nodes() {
        for job in jobs_on(node)? {
            let (app, process) = name(&job);
            found.insert(format!("{app} {process} {}", job.job.id));
        }
    }
    Ok(found)
}

/// A host without a free byte takes no new jobs and says why; what runs there runs on, others take what is
/// wanted meanwhile, and once there is room it takes jobs again.
pub(super) async fn disk_is_full(cluster: &mut Cluster) -> anyhow::Result<()> {
    let database = place_of_job(cluster, "postgres", "postgres")?;
    let place = (0..WANTED).find(|place| *place != database).context("three hosts")?;
    let before = everything(cluster)?;
    let full = node(cluster, place)?;
    let loads = loads(&cluster.nodes().collect::<Vec<_>>())?;
    full.host.fill_disk()?;
    let job = job_of(cluster, full, &["signal"]).await?;
    let mut reason = String::new();
    until("new jobs are refused", async || {
        let Ok(job) = with_new_id(&job, full) else { return false };
        let Err(error) = put(full, &job) else { return false };
        reason = format!("{error:#}");
        // Before that as many may be in the making as there may be, on any disk.
        reason.contains("No space left")
    })
    .await
    .with_context(|| reason.clone())?;
    let on_full = web_on([full])?;
    cluster.platform.flynn(&["-a", "hello", "scale", &format!("web={}", WANTED + 2)])?;
    ensure!(web_on([full])? == on_full, "a job was started on a full disk");
    let all = web_on(cluster.nodes())?;
    ensure!(all.len() == WANTED + 2, "{all:?}");
    let after = everything(cluster)?;
    ensure!(before.is_subset(&after), "{before:?} became {after:?}");
    cluster.platform.flynn(&["-a", "hello", "scale", &format!("web={WANTED}")])?;
    full.host.free_disk()?;
    until("jobs are taken again", async || {
        with_new_id(&job, full).is_ok_and(|job| put(full, &job).is_ok())
    })
    .await?;
    until("they are gone", async || {
        let Ok(jobs) = jobs_on(full) else { return false };
        let ours: Vec<_> = jobs.iter().filter(|job| name(job).0.is_empty()).collect();
        for job in &ours {
            let url = format!("http://127.0.0.1:1113/host/jobs/{}", job.job.id);
            // One may have ended meanwhile, or be ending.
            drop(full.host.run(&["curl", "--silent", "--request", "DELETE", &url]));
        }
        ours.is_empty()
    })
    .await?;
    until_whole(cluster, "a disk was full").await?;
    stop(loads, 0)
}

fn with_new_id(job: &Job, on: &Node) -> anyhow::Result<Job> {
    let mut job = job.clone();
    job.id = JobId::random(&on.host.id.parse::<HostId>()?);
    Ok(job)
}

/// Adds a job to a host, on the host itself.
fn put(node: &Node, job: &Job) -> anyhow::Result<()> {
    let url = format!("http://127.0.0.1:1113/host/jobs/{}", job.id);
    let mut curl = node.host.command("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "10"]);
    curl.args(["--header", "Content-Type: application/json", "--request", "PUT", "--data-binary"]);
    let done = curl.arg(serde_json::to_string(job)?).arg(url).output()?;
    let said = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// Every host ends at once; they start in another order, some time apart.
pub(super) async fn power_fails(cluster: &mut Cluster, times: Times) -> anyhow::Result<()> {
    let orders: &[[usize; WANTED]] = if times.long {
        &[[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    } else {
        &[[2, 1, 0]]
    };
    for order in orders {
        for place in order {
            cluster.node_mut(*place)?.turn_off()?;
        }
        for (number, place) in order.iter().enumerate() {
            if number > 0 {
                tokio::time::sleep(times.apart).await;
            }
            cluster.node_mut(*place)?.start_daemon().await?;
        }
        let started = Instant::now();
        for node in cluster.nodes() {
            until_page_on(node).await?;
        }
        let answers = started.elapsed().as_secs_f32();
        until_whole(cluster, &format!("a power cut and starts in the order {order:?}")).await?;
        note(&format!(
            "order {order:?}: the page everywhere after {answers:.1} s, whole after {:.1} s",
            started.elapsed().as_secs_f32()
        ));
    }
    Ok(())
}
