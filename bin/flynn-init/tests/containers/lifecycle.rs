//! How jobs start, are told things, and end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use host_container::client::read_exit;
use host_container::protocol::{Order, State, Stream};

use crate::support::{Job, PATIENCE, eventually, follow, until_output, until_state};

#[test]
fn the_exit_code_comes_back() {
    for code in [0, 1, 42, 255] {
        let outcome = Job::new(&["exit", &code.to_string()]).run();
        assert_eq!(
            (outcome.exit.state, outcome.exit.code),
            (State::Exited, Some(code)),
            "{}",
            outcome.init
        );
        assert!(outcome.init.contains("starting the job"), "{}", outcome.init);
        assert!(outcome.init.contains(&format!("job exited status={code}")), "{}", outcome.init);
    }
}

#[test]
fn the_end_is_on_disk_when_nobody_was_there() {
    let mut job = Job::new(&["cat", "/proc/sys/kernel/hostname"]);
    job.launch();
    job.wait();
    let outcome = job.on_disk();
    assert_eq!(outcome.exit.code, Some(0));
    assert_eq!(outcome.text(), "job-host\n");
    assert!(outcome.exit.ended_at_unix_ns > outcome.exit.started_at_unix_ns.unwrap());
    assert!(!job.spec.job_dir.join("sock").exists());
}

#[test]
fn a_job_waits_until_it_is_resumed() {
    let mut job = Job::new(&["env"]).with(|spec| {
        spec.resume_at_once = false;
        spec.env = vec![("A".to_owned(), "1".to_owned()), ("PATH".to_owned(), "/bin".to_owned())];
    });
    job.launch();
    let mut client = job.connect();
    until_state(&mut client, State::Ready);
    client.call(Order::Signal { signal: 15 }, drop).unwrap().unwrap_err();
    client.call(Order::Resume, drop).unwrap().unwrap();
    assert_eq!(follow(client).text(), "A=1\nPATH=/bin\n");
}

#[test]
fn a_missing_program_is_told_in_the_words_people_know() {
    let job = Job::new(&[]).with(|spec| spec.args = vec!["nothere".to_owned()]);
    let outcome = job.run();
    assert_eq!(outcome.exit.state, State::Failed);
    let want = r#"exec: "nothere": executable file not found in $PATH"#;
    assert_eq!(outcome.exit.error.as_deref(), Some(want));
}

#[test]
fn the_working_directory_is_where_the_program_starts_and_looks() {
    let job = Job::new(&["pwd"]).with(|spec| {
        spec.working_dir = "/bin".to_owned();
        spec.env = Vec::new();
    });
    assert_eq!(job.run().text(), "/bin\n");
    let job = Job::new(&["pwd"]).with(|spec| spec.working_dir = "/nowhere".to_owned());
    assert_eq!(job.run().exit.error.as_deref(), Some("chdir /nowhere: no such file or directory"));
}

#[test]
fn signals_reach_the_program() {
    let mut job = Job::new(&["trap"]);
    job.launch();
    let mut client = job.connect();
    client.send(Order::OpenOutput { stdout: Some(0), stderr: None, init: None }).unwrap();
    until_output(&mut client, "waiting");
    client.call(Order::Signal { signal: libc::SIGTERM }, drop).unwrap().unwrap();
    let outcome = job.follow(client);
    assert_eq!(outcome.exit.code, Some(7));
    assert_eq!(outcome.text(), "waiting\ngot signal: terminated\n");
}

#[test]
fn a_program_of_another_user_is_signalled_too() {
    let mut job = Job::new(&["wait"]).with(|spec| (spec.uid, spec.gid) = (5000, 5000));
    job.launch();
    let mut client = job.connect();
    until_running(&mut client);
    client.call(Order::Signal { signal: libc::SIGKILL }, drop).unwrap().unwrap();
    let outcome = job.follow(client);
    assert_eq!((outcome.exit.code, outcome.exit.signal), (None, Some(libc::SIGKILL)));
    assert_eq!(outcome.exit.exit_status(), 0);
}

#[test]
fn terminating_the_supervisor_terminates_the_program() {
    let mut job = Job::new(&["trap"]);
    job.launch();
    let mut client = job.connect();
    client.send(Order::OpenOutput { stdout: Some(0), stderr: None, init: None }).unwrap();
    until_output(&mut client, "waiting");
    kill(job.supervisor());
    assert_eq!(job.follow(client).exit.code, Some(7));

    fn kill(pid: u32) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

#[test]
fn orphans_are_reaped() {
    assert_eq!(Job::new(&["orphans", "50"]).run().text(), "all reaped\n");
}

#[test]
fn killing_the_supervisor_ends_everybody() {
    let mut job = Job::new(&["forks"]).with(|spec| spec.cgroup.pids = 20);
    job.spec.args = ["jobprobe", "wait"].map(str::to_owned).into();
    job.launch();
    let mut client = job.connect();
    until_running(&mut client);
    let procs = job.cgroup_dirs().iter().map(|dir| dir.join("cgroup.procs")).collect::<Vec<_>>();
    assert_eq!(lines(&procs[0]), 2);
    let supervisor =
        rustix::process::Pid::from_raw(i32::try_from(job.supervisor()).unwrap()).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    eventually("nobody is left", || procs.iter().all(|file| lines(file) == 0));
    assert_eq!(read_exit(&job.spec.job_dir).unwrap(), None);
    assert!(host_container::client::connect(&job.spec.job_dir).is_err());
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

#[test]
fn a_supervisor_keeps_no_mount_of_the_host_busy() {
    let mut job = Job::new(&["wait"]);
    job.launch();
    let mut client = job.connect();
    until_running(&mut client);
    let kept = |point: &str| {
        job.spec.job_dir.starts_with(point)
            || ["/proc", "/sys", "/dev"].iter().any(|kept| point.starts_with(kept))
    };
    let file = format!("/proc/{}/mountinfo", job.supervisor());
    eventually("only needed mounts are left", || {
        let mounts = fs::read_to_string(&file).unwrap();
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).all(kept)
    });
    client.call(Order::Signal { signal: 9 }, drop).unwrap().unwrap();
}

#[test]
fn a_job_of_the_hosts_process_ids_ends_with_all_it_forked() {
    let mut job = Job::new(&["forks"]).with(|spec| {
        (spec.user_namespace, spec.host_pid_namespace) = (None, true);
        spec.cgroup.pids = 30;
    });
    job.launch();
    let outcome = job.finish();
    assert_eq!(outcome.text(), "28 then WouldBlock\n");
    assert_eq!(outcome.exit.code, Some(0));
    job.wait();
    assert!(job.cgroup_dirs().iter().all(|dir| !dir.exists()));
}

#[test]
fn a_second_connection_sees_the_same_job() {
    let mut job = Job::new(&["wait"]);
    job.launch();
    let mut first = job.connect();
    until_running(&mut first);
    drop(first);
    let mut second = job.connect();
    until_running(&mut second);
    second.call(Order::Signal { signal: 9 }, drop).unwrap().unwrap();
    assert_eq!(job.follow(second).exit.signal, Some(9));
}

pub(crate) fn until_running(client: &mut host_container::client::Client) {
    client.send(Order::GetState).unwrap();
    until_state(client, State::Running);
}

#[test]
fn two_hundred_jobs_leave_nothing_behind() {
    let before = Census::take();
    for round in 0..200 {
        let mut job = Job::new(&["exit", "3"]).with(|spec| spec.tty = round % 4 == 3);
        job.launch();
        let outcome = job.finish();
        assert_eq!(outcome.exit.code, Some(3), "round {round}: {}", outcome.init);
        job.wait();
        for dir in job.cgroup_dirs() {
            assert!(!dir.exists(), "{}", dir.display());
        }
    }
    let patience = std::time::Instant::now() + PATIENCE;
    while Census::take() != before {
        assert!(std::time::Instant::now() < patience, "{before:?} became {:?}", Census::take());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// What the machine holds of ours. Other tests of this binary run meanwhile, so only what cannot be
/// theirs is counted: everything of theirs lies in folders and groups of other numbers.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    mounts: usize,
    zombies: usize,
}

impl Census {
    fn take() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let children: BTreeSet<String> =
            fs::read_to_string(format!("/proc/{own}/task/{own}/children"))
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect();
        let zombie = |pid: &&String| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
        };
        Self {
            mounts: mounts.lines().filter(|line| line.contains("flynn-t-container")).count(),
            zombies: children.iter().filter(zombie).count(),
        }
    }
}

#[test]
fn spools_of_all_streams_exist_even_when_silent() {
    let mut job = Job::new(&["exit", "0"]);
    job.launch();
    let outcome = job.finish();
    assert!(outcome.stdout.is_empty() && outcome.stderr.is_empty());
    job.wait();
    for stream in Stream::ALL {
        host_container::Spool::open(&job.spec.job_dir, stream).unwrap();
    }
}
