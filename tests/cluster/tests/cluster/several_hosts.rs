//! One host that becomes three and then five, one platform over all of them, and what can happen to one of
//! them or to all, under load: whoever did not depend on what was lost does not notice, and afterwards everything is there
//! once. One cluster lives through all of it, one after the other, as those of people do.
//!
//! `script/test` has each fault once and short; `LONG=1`, set by `script/soak hosts`, has the full text.

mod crowd;
mod faults;
mod members;
mod sharing;
mod whole;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use cluster_tests::{Cluster, on_cluster};
use serde_json::json;

/// Jobs of the app, once there are hosts for them.
const WANTED: usize = 3;

/// How long and how often things happen.
#[derive(Clone, Copy, Debug)]
struct Times {
    long: bool,
    /// How long a process stands still: longer than a registration lives without a sign.
    frozen: Duration,
    /// How often a host comes and goes, and how long each is.
    flaps: u32,
    flap: Duration,
    /// Between the starts of two hosts after a power cut.
    apart: Duration,
    /// Sleeping jobs that are started and stopped at once.
    crowd: usize,
    /// Jobs of each of two batches.
    batch: usize,
}

impl Times {
    fn of_this_run() -> Self {
        let seconds = Duration::from_secs;
        if std::env::var_os("LONG").is_some() {
            let crowd = std::env::var("CROWD").ok().and_then(|text| text.parse().ok());
            Self {
                long: true,
                frozen: seconds(30),
                flaps: 20,
                flap: seconds(3),
                apart: seconds(30),
                crowd: crowd.unwrap_or(1000),
                batch: 60,
            }
        } else {
            Self {
                long: false,
                frozen: seconds(12),
                flaps: 3,
                flap: seconds(2),
                apart: seconds(2),
                crowd: 24,
                batch: 20,
            }
        }
    }
}

#[test]
fn several_hosts_are_one_platform_that_outlives_what_happens_to_them() {
    on_cluster("several", 1, async |mut cluster| {
        let times = Times::of_this_run();
        let started = Instant::now();
        let told = |what: &str| note(&format!("{:.1} s: {what}", started.elapsed().as_secs_f32()));
        app(&cluster).await?;
        members::one_becomes_three(&mut cluster).await.context("three hosts")?;
        told("one host became three");
        faults::leaders_host_is_cut_off(&cluster, times)
            .await
            .context("a leader's host cut off")?;
        told("the host of discoverd's leader was cut off");
        faults::databases_host_is_lost(&mut cluster, times).await.context("the database's host")?;
        told("the database's host was lost");
        faults::host_comes_and_goes(&cluster, times).await.context("a host that comes and goes")?;
        told("a host came and went");
        faults::processes_stand_still(&cluster, times).await.context("standing processes")?;
        told("processes stood still");
        faults::control_plane_stands_still(&cluster, times).await.context("the control plane")?;
        told("the control plane stood still everywhere");
        faults::clocks_are_wrong(&cluster, times).await.context("wrong clocks")?;
        told("clocks were wrong");
        faults::disk_is_full(&mut cluster).await.context("a full disk")?;
        told("a disk was full");
        sharing::schedulers_share_hosts(&cluster, times).await.context("several schedulers")?;
        told("schedulers shared the hosts");
        members::come_and_vote(&mut cluster, 5).await.context("two more hosts")?;
        told("three hosts became five");
        crowd::comes_and_goes(&cluster, times).await.context("many jobs")?;
        told("many jobs came and went");
        members::one_is_replaced_and_two_leave(&mut cluster).await.context("leaving hosts")?;
        told("a host was replaced, two left");
        faults::power_fails(&mut cluster, times).await.context("a power cut of all")?;
        told("the power failed");
        Ok(())
    });
}

/// A figure for docs/reliability.md.
#[expect(clippy::print_stdout, reason = "what a run is read for")]
fn note(text: &str) {
    println!("{text}");
}

/// A tenth of the processors a host can promise, in thousandths of one.
fn tenth_of_a_host() -> i64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    i64::try_from(cores * 100).unwrap_or(i64::MAX)
}

/// An app with a page and one job.
async fn app(cluster: &Cluster) -> anyhow::Result<()> {
    let port = json!({"port": 8080, "proto": "tcp", "service": {
        "name": "hello-web", "create": true, "check": {"type": "tcp"}}});
    let web = json!({"args": ["/bin/test-apps", "hello"], "ports": [port]});
    let idle = |cpu: i64| {
        let memory = json!({"request": 16 << 20, "limit": 64 << 20});
        let resources = json!({"memory": memory, "cpu": {"request": cpu, "limit": cpu.max(1000)}});
        json!({"args": ["/bin/test-apps", "signal"], "resources": resources})
    };
    // Memory bounds how many sleepers there are, the processors they are promised how many busy ones.
    let (sleeper, busy) = (idle(1), idle(tenth_of_a_host()));
    let processes = json!({ "web": web, "sleeper": sleeper, "busy": busy });
    cluster.platform.app("hello", &processes).await?;
    cluster.platform.flynn(&["-a", "hello", "scale", "web=1"])?;
    whole::until_page_on(&cluster.platform.node).await
}
