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

/// How often each; enough that the median says something on a busy machine.
const ROUNDS: usize = 31;

#[test]
fn start_latency_is_printed() {
    let peer = Peer::new();
    let mut series: [Vec<u64>; 4] = Default::default();
    // One after the other in each round, so that all see the same machine.
    for round in 0..ROUNDS {
        series[0].push(to_first_instruction(true));
        series[1].push(to_first_instruction(false));
        series[2].extend(peer.as_ref().and_then(|peer| peer.run(round)));
        series[3].push(plain_process());
    }
    let [mapped, unmapped, runc, plain] = series.map(Figures::of);
    println!("launch to first instruction in a user namespace: {mapped}");
    println!("launch to first instruction without one: {unmapped}");
    // A runc that does not run here is no fault of ours: there is no peer then.
    if runc.count == ROUNDS {
        println!("runc run to first instruction: {runc}");
        println!("launch, ratio of medians: {:.2}", ratio(&mapped, &runc));
    }
    println!("a plain process for comparison: {plain}");
    println!("resident memory: supervisor {}, init {}", resident(true), resident(false));
    let mut whole: Vec<_> = (0..15).map(|_| launch_to_exit()).collect();
    whole.sort_unstable();
    println!("launch to exit status in hand: median {:?}", whole[7]);
}

fn ratio(ours: &Figures, theirs: &Figures) -> f64 {
    ours.median.as_secs_f64() / theirs.median.as_secs_f64()
}

/// What a series of runs gave.
struct Figures {
    least: Duration,
    median: Duration,
    most: Duration,
    count: usize,
}

impl Figures {
    fn of(mut nanoseconds: Vec<u64>) -> Self {
        nanoseconds.sort_unstable();
        let count = nanoseconds.len();
        let at = |at: usize| Duration::from_nanos(nanoseconds.get(at).copied().unwrap_or(0));
        Self { least: at(0), median: at(count / 2), most: at(count.saturating_sub(1)), count }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { least, median, most, count } = self;
        write!(f, "median {median:.2?} ({least:.2?} to {most:.2?}, {count} runs)")
    }
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
struct Peer {
    bundle: tempfile::TempDir,
}

impl Peer {
    fn new() -> Option<Self> {
        let bundle = tempfile::Builder::new().prefix("flynn-t-runc-").tempdir().unwrap();
        let root = bundle.path().join("rootfs");
        for folder in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::copy(example("jobprobe"), root.join("bin/jobprobe")).unwrap();
        let mut spec = Command::new("runc");
        let made = spec.args(["spec", "--bundle"]).arg(bundle.path()).output().ok()?;
        assert!(made.status.success(), "{made:?}");
        let file = bundle.path().join("config.json");
        let mut config: serde_json::Value =
            serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config["process"]["args"] = serde_json::json!(["/bin/jobprobe", "stamp"]);
        config["process"]["terminal"] = serde_json::json!(false);
        config["linux"]["cgroupsPath"] = serde_json::json!(format!("/{}/job", Self::group()));
        fs::write(&file, config.to_string()).unwrap();
        Some(Self { bundle })
    }

    fn run(&self, round: usize) -> Option<u64> {
        let bundle = self.bundle.path();
        let start = monotonic();
        let mut command = Command::new("runc");
        command.arg("--root").arg(bundle.join("state")).args(["run", "--bundle"]).arg(bundle);
        let output = command.arg(format!("round-{round}")).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.trim().parse::<u64>().ok()? - start)
    }

    /// The group above that of the container, in every tree.
    fn group() -> String {
        format!("flynn-t-container-{}-runc", std::process::id())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // runc removes the group of a container, not the one above it.
        for tree in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            drop(fs::remove_dir(tree.path().join(Self::group())));
        }
    }
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
