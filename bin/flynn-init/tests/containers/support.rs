//! One job with everything it needs, cleaned up whatever happens.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use host_container::client::{Client, read_exit};
use host_container::protocol::{
    CgroupSpec, ExitRecord, JobSpec, Lowers, NetworkSpec, Notice, Order, Rlimits, State, Stream,
    SupervisorFrame, UserNamespace,
};
use host_container::{Cgroups, Spool, launch};
use kit_units::Bytes;
use tempfile::TempDir;

/// For everything that is waited for; far above what any of it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The set userns.md settled on.
pub(crate) const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SETFCAP",
];

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A job that is being described, runs, or has ended.
pub(crate) struct Job {
    pub(crate) spec: JobSpec,
    pub(crate) dir: TempDir,
    child: Option<Child>,
}

/// How a job went, and all it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: ExitRecord,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) init: String,
}

impl Outcome {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The word after `name ` at the start of a line.
    pub(crate) fn value(&self, name: &str) -> String {
        let text = self.text();
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', ':', '\t']));
        line.unwrap_or_else(|| panic!("no {name} in {text}\n{}", self.init)).trim().to_owned()
    }
}

impl Job {
    /// A job of its own range running `jobprobe` with `args`, started at once.
    pub(crate) fn new(args: &[&str]) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new().prefix("flynn-t-container-").tempdir().unwrap();
        // As in production: nobody but root may pass.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let layers = ["lower", "probe"].map(|name| dir.path().join(name));
        for folder in ["job", "scratch", "lower/etc", "lower/data", "lower/tmp", "probe/bin"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::set_permissions(layers[0].join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        place_probe(&layers[1].join("bin/jobprobe"));
        let spec = JobSpec {
            job_id: format!("host1-job-{}-{number}", std::process::id()).parse().unwrap(),
            job_dir: dir.path().join("job"),
            layers: layers.into(),
            scratch_dir: dir.path().join("scratch"),
            user_namespace: Some(UserNamespace { base: 1_000_000 + number * 65_536, size: 65_536 }),
            uid: 0,
            gid: 0,
            args: ["jobprobe"].iter().chain(args).map(ToString::to_string).collect(),
            env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            working_dir: String::new(),
            hostname: "job-host".to_owned(),
            tty: false,
            open_stdin: false,
            resume_at_once: true,
            mounts: Vec::new(),
            volumes: Vec::new(),
            bind_files: Vec::new(),
            network: NetworkSpec::Host,
            cgroup: cgroup(number),
            rlimits: Rlimits::default(),
            capabilities: CAPABILITIES.map(str::to_owned).into(),
            devices: Vec::new(),
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            writeable_cgroups: false,
            host_pid_namespace: false,
            services: Vec::new(),
            discoverd: None,
            instance_meta: Default::default(),
            spool_bytes: Bytes::mib(8),
            lowers: Lowers::Auto,
        };
        Self { spec, dir, child: None }
    }

    /// The same with changes.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut JobSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    pub(crate) fn launch(&mut self) {
        self.launch_by(&built("flynn-init"));
    }

    /// Launches with another program in the place of `flynn-init`.
    pub(crate) fn launch_by(&mut self, init: &Path) {
        self.child = Some(launch(init, &self.spec).unwrap());
    }

    /// Connects to the running supervisor.
    pub(crate) fn connect(&mut self) -> Client {
        self.try_connect().expect("the job ended before anybody could connect")
    }

    /// Launches, follows everything to the end.
    pub(crate) fn run(mut self) -> Outcome {
        self.launch();
        self.finish()
    }

    /// Follows everything to the end, from the socket or from what a short job left.
    pub(crate) fn finish(&mut self) -> Outcome {
        match self.try_connect() {
            Some(client) => self.follow(client),
            None => self.on_disk(),
        }
    }

    /// Follows a job that may end at any moment: from the connection, or from what it left.
    pub(crate) fn follow(&mut self, mut client: Client) -> Outcome {
        match client.call(everything(), drop) {
            Ok(done) => {
                done.unwrap();
                collect(client)
            }
            Err(_gone) => self.on_disk(),
        }
    }

    /// What is on disk after the supervisor has ended.
    pub(crate) fn on_disk(&mut self) -> Outcome {
        self.wait();
        let read = |stream| {
            let spool = Spool::open(&self.spec.job_dir, stream).unwrap();
            let mut bytes = vec![0; usize::try_from(spool.end() - spool.start()).unwrap()];
            let mut at = 0;
            while at < bytes.len() {
                at += spool.read(spool.start() + at as u64, &mut bytes[at..]).unwrap().count;
            }
            bytes
        };
        Outcome {
            exit: read_exit(&self.spec.job_dir).unwrap().expect("an exit record"),
            stdout: read(Stream::Stdout),
            stderr: read(Stream::Stderr),
            init: String::from_utf8(read(Stream::Init)).unwrap(),
        }
    }

    /// Waits for the supervisor's end.
    pub(crate) fn wait(&mut self) {
        let child = self.child.as_mut().unwrap();
        eventually("the supervisor ends", || child.try_wait().unwrap().is_some());
    }

    pub(crate) fn supervisor(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn cgroup_dirs(&self) -> Vec<PathBuf> {
        let place = &self.spec.cgroup;
        let trees = Cgroups::detect().unwrap();
        trees.job(&place.prefix, &place.partition, &place.name).unwrap().dirs()
    }

    fn try_connect(&mut self) -> Option<Client> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Client::connect(&self.spec.job_dir, PATIENCE) {
                Ok(client) => return Some(client),
                Err(error) => assert!(Instant::now() < deadline, "connecting: {error}"),
            }
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let swept = Cgroups::detect().unwrap().sweep(&self.spec.cgroup.prefix, PATIENCE);
        if !std::thread::panicking() {
            swept.unwrap();
        }
    }
}

/// Reads all streams of a job that does not end yet until it has ended.
pub(crate) fn follow(mut client: Client) -> Outcome {
    // What comes before the reply belongs to a former order.
    client.call(everything(), drop).unwrap().unwrap();
    collect(client)
}

fn everything() -> Order {
    Order::OpenOutput { stdout: Some(0), stderr: Some(0), init: Some(0) }
}

/// Reads what the connection follows until the job has ended.
pub(crate) fn collect(mut client: Client) -> Outcome {
    let mut streams = [const { Vec::new() }; 3];
    loop {
        match client
            .receive()
            .unwrap()
            .expect("the end of the job before the end of the connection")
        {
            SupervisorFrame::Output { stream, offset, bytes } => {
                let collected: &mut Vec<u8> = &mut streams[usize::from(stream.number() - 1)];
                assert_eq!(offset, collected.len() as u64, "{stream:?}");
                collected.extend(bytes);
            }
            SupervisorFrame::Notice(Notice::State(report)) if report.state.has_ended() => {
                let [stdout, stderr, init] = streams;
                let init = String::from_utf8(init).unwrap();
                return Outcome { exit: report.exit.unwrap(), stdout, stderr, init };
            }
            SupervisorFrame::Notice(_) => {}
        }
    }
}

/// Receives until `wanted` says yes.
pub(crate) fn until(
    client: &mut Client,
    mut wanted: impl FnMut(&SupervisorFrame) -> bool,
) -> SupervisorFrame {
    loop {
        let frame = client.receive().unwrap().expect("the connection to stay");
        if wanted(&frame) {
            return frame;
        }
    }
}

/// Receives until the job is in `state`.
pub(crate) fn until_state(client: &mut Client, state: State) {
    until(
        client,
        |frame| matches!(frame, SupervisorFrame::Notice(Notice::State(report)) if report.state == state),
    );
}

/// Receives until a followed stream has shown `text`.
pub(crate) fn until_output(client: &mut Client, text: &str) {
    let mut seen = Vec::new();
    until(client, |frame| {
        if let SupervisorFrame::Output { bytes, .. } = frame {
            seen.extend_from_slice(bytes);
        }
        String::from_utf8_lossy(&seen).contains(text)
    });
}

/// Waits for a condition.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn cgroup(number: u32) -> CgroupSpec {
    CgroupSpec {
        prefix: format!("flynn-t-container-{}-{number}", std::process::id()),
        partition: "user".to_owned(),
        name: format!("job-{number}"),
        memory: Bytes::mib(256),
        swap: Bytes(0),
        cpu_shares: 1024,
        cpu_quota: None,
        pids: 256,
    }
}

/// A program that cargo builds beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    built("examples").join(name)
}

/// What cargo built, or what was brought along beside this program into another machine.
fn built(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().map(|me| me.with_file_name(name));
    let beside = beside.filter(|path| path.exists());
    beside.unwrap_or_else(|| Path::new(env!("CARGO_BIN_EXE_flynn-init")).with_file_name(name))
}

fn place_probe(target: &Path) {
    match fs::hard_link(example("jobprobe"), target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            fs::copy(example("jobprobe"), target).unwrap();
        }
        linked => linked.unwrap(),
    }
}
