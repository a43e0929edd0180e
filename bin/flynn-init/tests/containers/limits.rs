//! What a job may use.

use host_container::protocol::{CpuQuota, Notice, Order, SupervisorFrame};
use kit_units::Bytes;

use crate::lifecycle::until_running;
use crate::support::Job;

#[test]
fn a_memory_hog_is_killed_and_the_reason_is_told() {
    let job = Job::new(&["hog", "500"]).with(|spec| spec.cgroup.memory = Bytes::mib(64));
    let outcome = job.run();
    assert_eq!(outcome.exit.signal, Some(libc::SIGKILL), "{outcome:?}");
    assert_eq!(outcome.exit.oom_kills, 1);
    let told =
        "FATAL: a container process was killed due to lack of available memory: used 64MB of 64MB";
    assert!(outcome.init.contains(told), "{}", outcome.init);
}

#[test]
fn a_job_within_its_memory_is_left_alone() {
    let outcome = Job::new(&["hog", "100"]).run();
    assert_eq!((outcome.exit.code, outcome.exit.oom_kills), (Some(0), 0));
    assert!(outcome.exit.memory_peak.unwrap() >= Bytes::mib(100));
}

#[test]
fn a_fork_bomb_meets_the_limit_of_processes() {
    let outcome = Job::new(&["forks"]).with(|spec| spec.cgroup.pids = 40).run();
    // Init and the program itself count too.
    assert_eq!(outcome.text(), "38 then WouldBlock\n");
}

#[test]
fn descriptors_and_shared_memory_are_bounded() {
    let outcome = Job::new(&["limits"]).with(|spec| spec.rlimits.max_fd = Some((1000, 2000))).run();
    assert_eq!(outcome.value("files"), "Some(1000) Some(2000)");
    assert_eq!(outcome.value("shm"), (64 << 20).to_string());
    let text = outcome.text();
    assert!(text.contains("shm /dev/shm tmpfs"), "{text}");
    let root = text.lines().find(|line| line.contains(" / overlay ")).unwrap();
    assert!(root.contains("nosuid") && root.contains("nodev"), "{root}");
    let system = text.lines().find(|line| line.contains(" /sys sysfs ")).unwrap();
    assert!(system.contains("ro,"), "{system}");
}

#[test]
fn a_job_sees_its_own_limits_and_nobody_elses() {
    let outcome = Job::new(&["cat", "/proc/self/cgroup"]).run();
    assert!(
        outcome.text().lines().all(|line| line.ends_with(":/") || line.contains("name=systemd")),
        "{}",
        outcome.text()
    );
    let file = match host_container::Cgroups::detect().unwrap().mode() {
        host_container::CgroupMode::V2 => "/sys/fs/cgroup/memory.max",
        host_container::CgroupMode::V1 | host_container::CgroupMode::Hybrid => {
            "/sys/fs/cgroup/memory/memory.limit_in_bytes"
        }
    };
    let outcome = Job::new(&["cat", file]).run();
    assert_eq!(outcome.text().trim(), (256 << 20).to_string(), "{}", outcome.init);
}

#[test]
fn cpu_limits_are_set_and_use_is_told() {
    let mut job = Job::new(&["wait"]).with(|spec| {
        spec.cgroup.cpu_shares = 768;
        spec.cgroup.cpu_quota = Some(CpuQuota { quota_us: 50_000, period_us: 100_000 });
    });
    job.launch();
    let mut client = job.connect();
    until_running(&mut client);
    let read = |name: &str| {
        let found = job
            .cgroup_dirs()
            .into_iter()
            .find_map(|dir| std::fs::read_to_string(dir.join(name)).ok());
        found.map(|text| text.trim().to_owned())
    };
    if let Some(shares) = read("cpu.shares") {
        assert_eq!(shares, "768");
        assert_eq!(read("cpu.cfs_quota_us").unwrap(), "50000");
    } else {
        assert_eq!(read("cpu.max").unwrap(), "50000 100000");
    }
    let place = &job.spec.cgroup;
    let trees = host_container::Cgroups::detect().unwrap();
    let groups = trees.job(&place.prefix, &place.partition, &place.name).unwrap();
    assert!(groups.memory().unwrap().used > Bytes(0));
    assert!(groups.cpu_time().unwrap() > std::time::Duration::ZERO);
    assert!(trees.job_names(&place.prefix, &place.partition).unwrap().contains(&place.name));
    client.call(Order::Signal { signal: 9 }, drop).unwrap().unwrap();
    job.follow(client);
}

#[test]
fn lack_of_memory_is_told_while_the_job_goes_on() {
    let mut job = Job::new(&["hog", "500"])
        .with(|spec| (spec.cgroup.memory, spec.resume_at_once) = (Bytes::mib(64), false));
    job.launch();
    let mut client = job.connect();
    client.send(Order::Resume).unwrap();
    let frame = crate::support::until(&mut client, |frame| {
        matches!(frame, SupervisorFrame::Notice(Notice::OutOfMemory { .. }))
    });
    let SupervisorFrame::Notice(Notice::OutOfMemory { limit, kills, .. }) = frame else {
        unreachable!()
    };
    assert_eq!((limit, kills), (64 << 20, 1));
}
