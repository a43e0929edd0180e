//! How long a start takes. No time is asserted: the figures are printed for people.

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
