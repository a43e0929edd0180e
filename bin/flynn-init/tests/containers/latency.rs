//! How long a start takes. No time is asserted: the figures are printed for people.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use host_container::protocol::Order;

use crate::lifecycle::until_running;
use crate::support::{Job, example, follow};

fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap()
}

#[test]
fn start_latency_is_printed() {
    for mapped in [true, false] {
        let mut exec: Vec<u64> = (0..15).map(|_| to_first_instruction(mapped)).collect();
        exec.sort_unstable();
        println!(
            "user namespace {mapped}: launch to first instruction median {:?}, most {:?}",
            Duration::from_nanos(exec[7]),
            Duration::from_nanos(exec[14])
        );
    }
    if let Some(mut peer) = runc_times() {
        peer.sort_unstable();
        let (median, most) = (Duration::from_nanos(peer[7]), Duration::from_nanos(peer[14]));
        println!("runc run to first instruction median {median:?}, most {most:?}");
    }
    let mut plain: Vec<u64> = (0..15).map(|_| plain_process()).collect();
    plain.sort_unstable();
    println!("a plain process for comparison: median {:?}", Duration::from_nanos(plain[7]));
    println!("resident memory: supervisor {}, init {}", resident(true), resident(false));
    let mut whole: Vec<_> = (0..15).map(|_| launch_to_exit()).collect();
    whole.sort_unstable();
    println!("launch to exit status in hand: median {:?}", whole[7]);
}

fn to_first_instruction(mapped: bool) -> u64 {
    let mut job = Job::new(&["stamp"]);
    if !mapped {
        job.spec.user_namespace = None;
    }
    let start = monotonic();
    job.launch();
    let outcome = job.finish();
    outcome.text().trim().parse::<u64>().unwrap() - start
}

/// The same program by `runc run` with runc's own defaults, where runc is installed.
fn runc_times() -> Option<Vec<u64>> {
    let dir = tempfile::Builder::new().prefix("flynn-t-runc-").tempdir().unwrap();
    let bundle = dir.path();
    for folder in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
        fs::create_dir_all(bundle.join("rootfs").join(folder)).unwrap();
    }
    fs::copy(example("jobprobe"), bundle.join("rootfs/bin/jobprobe")).unwrap();
    let made = Command::new("runc").args(["spec", "--bundle"]).arg(bundle).output().ok()?;
    assert!(made.status.success(), "{made:?}");
    let file = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["process"]["args"] = serde_json::json!(["/bin/jobprobe", "stamp"]);
    config["process"]["terminal"] = serde_json::json!(false);
    config["linux"]["cgroupsPath"] =
        serde_json::json!(format!("/flynn-t-container-{}-runc/job", std::process::id()));
    fs::write(&file, config.to_string()).unwrap();
    let time = |round: usize| {
        let start = monotonic();
        let mut command = Command::new("runc");
        command.arg("--root").arg(bundle.join("state")).args(["run", "--bundle"]).arg(bundle);
        let output = command.arg(format!("round-{round}")).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // A runc that does not run here is no fault of ours: there is no peer then.
        Some(text.trim().parse::<u64>().ok()? - start)
    };
    let times: Option<Vec<u64>> = (0..15).map(time).collect();
    // runc removes the group of a container, not the one above it.
    for tree in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let group = format!("flynn-t-container-{}-runc", std::process::id());
        drop(fs::remove_dir(tree.path().join(group)));
    }
    times
}

fn plain_process() -> u64 {
    let start = monotonic();
    let output = std::process::Command::new(example("jobprobe")).arg("stamp").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse::<u64>().unwrap() - start
}

/// As /proc tells it.
fn resident(supervisor: bool) -> String {
    let mut job = Job::new(&["wait"]);
    job.launch();
    let mut client = job.connect();
    until_running(&mut client);
    let children = format!("/proc/{0}/task/{0}/children", job.supervisor());
    let init = std::fs::read_to_string(children).unwrap();
    let pid = if supervisor { job.supervisor().to_string() } else { init.trim().to_owned() };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    client.call(Order::Signal { signal: 9 }, drop).unwrap().unwrap();
    let line = |name| {
        status
            .lines()
            .find_map(|line: &str| line.strip_prefix(name))
            .unwrap_or("?")
            .trim()
            .to_owned()
    };
    format!("{} (own {})", line("VmRSS:"), line("RssAnon:"))
}

fn launch_to_exit() -> Duration {
    let mut job = Job::new(&["exit", "0"]).with(|spec| spec.resume_at_once = false);
    let start = Instant::now();
    job.launch();
    let mut client = job.connect();
    client.send(Order::Resume).unwrap();
    follow(client);
    start.elapsed()
}
