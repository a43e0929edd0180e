//! What the daemon uses of the crate beside jobs: networks, probe, pinned namespaces, partitions.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use host_container::protocol::{NetworkSpec, Order};
use host_container::{CgroupMode, Cgroups, UsernsSupport, probe};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::support::{Job, PATIENCE, example};

/// An empty network namespace, named by a path that other processes can open.
fn new_network() -> (File, std::path::PathBuf) {
    let file = std::thread::spawn(|| {
        // SAFETY: only this short-lived thread's network changes.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    let file = file.join().unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    (file, path.into())
}

#[test]
fn a_job_is_in_the_network_it_was_given() {
    let (_network, path) = new_network();
    let inside = Job::new(&["list", "/sys/class/net"])
        .with(|spec| spec.network = NetworkSpec::Namespace(path));
    assert_eq!(inside.run().text(), "lo\n");
    let host = Job::new(&["list", "/sys/class/net"]).run().text();
    assert!(host.lines().count() > 1 || host == "lo\n", "{host}");
}

#[test]
fn a_machine_with_only_the_unified_tree_runs_jobs_too() {
    let run = |args: &[&str]| {
        let mut job = Job::new(args);
        job.launch_by(&example("unified"));
        let outcome = job.finish();
        job.wait();
        assert!(job.cgroup_dirs().iter().all(|dir| !dir.exists()), "{}", outcome.init);
        outcome
    };
    let outcome = run(&["exit", "42"]);
    assert_eq!(outcome.exit.code, Some(42));
    // Where v1 has the controllers, hiding it leaves jobs unlimited, which is told.
    let trees = Cgroups::detect().unwrap();
    let told = outcome.init.contains("this machine cannot limit memory");
    assert_eq!(told, trees.mode() != CgroupMode::V2, "{}", outcome.init);
    let own = run(&["cat", "/proc/self/cgroup"]).text();
    assert!(own.lines().any(|line| line == "0::/"), "{own}");
    // Init and the program.
    assert_eq!(run(&["cat", "/sys/fs/cgroup/cgroup.procs"]).text(), "1\n2\n");
    assert_eq!(run(&["write", "/dev/null", "x"]).exit.code, Some(0));

    let mut job = Job::new(&["wait"]).with(|spec| spec.host_pid_namespace = true);
    job.spec.user_namespace = None;
    job.launch_by(&example("unified"));
    let mut client = job.connect();
    crate::lifecycle::until_running(&mut client);
    client.call(Order::Signal { signal: 9 }, drop).unwrap().unwrap();
    assert_eq!(job.follow(client).exit.signal, Some(9));
}

#[test]
fn a_missing_network_fails_the_job_with_its_path() {
    let missing = NetworkSpec::Namespace("/run/netns/flynn-t-none".into());
    let error =
        Job::new(&["exit", "0"]).with(|spec| spec.network = missing).run().exit.error.unwrap();
    assert!(error.contains("/run/netns/flynn-t-none"), "{error}");
}

#[test]
fn the_probe_finds_user_namespaces_on_this_machine_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["layers", "volumes", "scratch"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let place = |name| dir.path().join(name);
    let found = probe(&place("layers"), &place("volumes"), &place("scratch"));
    assert_eq!((found.userns, found.reason.as_deref()), (UsernsSupport::Full, None));
    assert!(found.cgroups.is_some());
    assert!(found.missing_limits.is_empty(), "{:?}", found.missing_limits);
    assert_eq!(fs::read_dir(place("scratch")).unwrap().count(), 0);
    let proc = probe(Path::new("/proc"), &place("volumes"), &place("scratch"));
    assert_eq!(proc.userns, UsernsSupport::DirsOnly);
    assert!(proc.reason.unwrap().contains("/proc"));
}

#[test]
fn mounts_outlive_a_killed_daemon_until_the_pin_goes() {
    let dir = tempfile::tempdir().unwrap();
    let pin = dir.path().join("ns/mnt");
    let target = dir.path().join("layer");
    fs::create_dir(&target).unwrap();
    let run = |verb: &str| {
        let output =
            Command::new(example("pinprobe")).arg(&pin).arg(&target).arg(verb).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("mount"), "Created false\n");
    // Nobody is in the namespace now.
    assert_eq!(run("look"), "Reentered true\n");
    assert_eq!(run("again"), "Reentered true\nAlreadyInside\n");
    assert!(!target.join("here").exists());
    host_container::remove_pinned_mount_namespace(&pin).unwrap();
    assert_eq!(run("look"), "Created false\n");
    host_container::remove_pinned_mount_namespace(&pin).unwrap();
    host_container::remove_pinned_mount_namespace(&pin).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()), "{mounts}");
}

#[test]
fn partitions_have_shares_and_sweeping_kills_what_is_left() {
    let trees = Cgroups::detect().unwrap();
    let prefix = format!("flynn-t-container-sweep-{}", std::process::id());
    trees.ensure_partition(&prefix, "system", 4096).unwrap();
    trees.ensure_partition(&prefix, "system", 8192).unwrap();
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    let job = trees.job(&prefix, "system", "left").unwrap();
    for dir in job.dirs() {
        fs::create_dir(&dir).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(text) = fs::read_to_string(dir.join("..").join(file)) {
                fs::write(dir.join(file), text.trim()).unwrap();
            }
        }
    }
    job.attach(sleeper.id()).unwrap();
    assert!(!job.is_empty());
    let reaper = std::thread::spawn(move || sleeper.wait().unwrap());
    trees.sweep(&prefix, PATIENCE).unwrap();
    assert!(!reaper.join().unwrap().success());
    assert!(job.dirs().iter().all(|dir| !dir.exists()));
    job.remove(Duration::ZERO).unwrap();
}
