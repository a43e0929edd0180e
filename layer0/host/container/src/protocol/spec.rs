//! The description of one job that the daemon hands to its supervisor. Nothing here is decided by
//! the supervisor: defaults of the platform are filled in by the daemon.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kit_ids::JobId;
use kit_units::Bytes;
use serde::{Deserialize, Serialize};

/// Default bound of each spooled stream.
pub const DEFAULT_SPOOL_BYTES: Bytes = Bytes::mib(8);

/// Everything the supervisor needs to run one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The job's id; names its log lines.
    pub job_id: JobId,
    /// Existing directory, 0700 root: the supervisor puts its socket, spool and exit record here.
    pub job_dir: PathBuf,
    /// Read-only layers, bottom first: directories or mount points in the daemon's mount namespace.
    pub layers: Vec<PathBuf>,
    /// Existing directory on the job's bounded scratch file system; gets `upper`, `work` and `root`.
    pub scratch_dir: PathBuf,
    /// The user namespace; `None` runs the job with the host's ids (D5: partition `system` only).
    pub user_namespace: Option<UserNamespace>,
    /// User of the program, inside the namespace. No supplementary groups are ever set.
    pub uid: u32,
    /// Group of the program, inside the namespace.
    pub gid: u32,
    /// Program and arguments; the program is looked up in the environment's PATH.
    pub args: Vec<String>,
    /// The whole environment in order; nothing is added.
    pub env: Vec<(String, String)>,
    /// Directory the program starts in; empty means `/`.
    pub working_dir: String,
    /// Host name inside the job; cut to 64 bytes.
    pub hostname: String,
    /// Give the program a terminal.
    pub tty: bool,
    /// Connect standard input; otherwise it is `/dev/null`.
    pub open_stdin: bool,
    /// Start the program without waiting for [`Order::Resume`](super::Order::Resume).
    #[serde(default)]
    pub resume_at_once: bool,
    /// Mounts from the job's configuration.
    #[serde(default)]
    pub mounts: Vec<ConfigMount>,
    /// Volumes: directories whose on-disk ids stay range independent.
    #[serde(default)]
    pub volumes: Vec<BindMount>,
    /// Single files such as `resolv.conf`, `hosts` and the CA bundle.
    #[serde(default)]
    pub bind_files: Vec<BindMount>,
    /// Where the job's network lives.
    pub network: NetworkSpec,
    /// Limits and the place in the cgroup trees.
    pub cgroup: CgroupSpec,
    /// Limits of the program's process.
    pub rlimits: Rlimits,
    /// The bounding set, exactly: names such as `CAP_CHOWN`.
    pub capabilities: Vec<String>,
    /// Devices beyond the always present null, zero, full, random, urandom and tty.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Paths hidden from the job, beyond the built-in list.
    #[serde(default)]
    pub masked_paths: Vec<String>,
    /// Paths made read-only, beyond the built-in list.
    #[serde(default)]
    pub readonly_paths: Vec<String>,
    /// Mount the job's own cgroups writable.
    #[serde(default)]
    pub writeable_cgroups: bool,
    /// Share the host's process ids; only without a user namespace.
    #[serde(default)]
    pub host_pid_namespace: bool,
    /// Services to register while the job runs.
    #[serde(default)]
    pub services: Vec<ServiceSpec>,
    /// Comma list of discoverd URLs; `None` (the wire's "none") waits for
    /// [`Order::SetDiscoverd`](super::Order::SetDiscoverd).
    #[serde(default)]
    pub discoverd: Option<String>,
    /// Metadata of every registered instance (FLYNN_APP_ID and so on).
    #[serde(default)]
    pub instance_meta: BTreeMap<String, String>,
    /// Bound of each spooled stream; the oldest bytes go first.
    #[serde(default = "default_spool")]
    pub spool_bytes: Bytes,
    /// How the layers are given to the overlay; from the daemon's probe.
    #[serde(default)]
    pub lowers: Lowers,
}

fn default_spool() -> Bytes {
    DEFAULT_SPOOL_BYTES
}

/// A range of host ids that the job's ids 0.. map to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// Host id of the job's id 0.
    pub base: u32,
    /// How many ids; 65536, so that nobody (65534) and tty (5) are in it.
    pub size: u32,
}

/// How layers reach the overlay file system (userns.md §1 C), newest kernel first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lowers {
    /// Try each way in turn.
    #[default]
    Auto,
    /// Detached mounts by file descriptor (kernel 6.15).
    Descriptors,
    /// Attached mounts, one `lowerdir+` each (kernel 6.7).
    Paths,
    /// One option string to mount(2).
    Classic,
}

/// A mount of the job's configuration (spec/host.md §3, Mount).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigMount {
    /// Path in the container.
    pub location: String,
    /// Source on the host; ignored by file systems without one.
    pub target: String,
    /// Read-only unless set.
    #[serde(default)]
    pub writeable: bool,
    /// File system type; empty for a recursive bind mount of `target`.
    #[serde(default)]
    pub device: String,
    /// Options of the file system.
    #[serde(default)]
    pub data: String,
    /// Mount flags as of mount(2).
    #[serde(default)]
    pub flags: u64,
}

/// A host path made visible inside the job, id-mapped when the job has a user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Path on the host.
    pub source: PathBuf,
    /// Path in the container; created when missing.
    pub target: String,
    /// Read-only unless set.
    pub writeable: bool,
}

/// Where the job's network lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkSpec {
    /// The host's own network.
    Host,
    /// A network namespace prepared by the daemon, named by a path such as a pinned nsfs file.
    Namespace(PathBuf),
}

/// The job's place in the cgroup trees: `/<prefix>/<partition>/<name>`, with its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupSpec {
    /// The host's folder, such as `flynn`; may hold slashes.
    pub prefix: String,
    /// `user`, `system` or `background`.
    pub partition: String,
    /// Unique per attempt: the job id.
    pub name: String,
    /// Most memory.
    pub memory: Bytes,
    /// Most swap on top of `memory`; zero for none.
    #[serde(default)]
    pub swap: Bytes,
    /// CPU shares as of cgroup v1 (2..=262144); converted to a weight on v2.
    pub cpu_shares: u64,
    /// A hard CPU bound.
    #[serde(default)]
    pub cpu_quota: Option<CpuQuota>,
    /// Most processes and threads.
    pub pids: u64,
}

/// `quota` of CPU time in every `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuQuota {
    /// Microseconds of CPU time.
    pub quota_us: u64,
    /// Microseconds of wall time, commonly 100000.
    pub period_us: u64,
}

/// Resource limits of the program, (soft, hard).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimits {
    /// RLIMIT_NOFILE.
    pub max_fd: Option<(u64, u64)>,
    /// RLIMIT_NPROC.
    pub max_procs: Option<(u64, u64)>,
}

/// Kind of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// A device the job may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Node to make under `/dev`; empty makes none.
    #[serde(default)]
    pub path: String,
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number; `None` is every one.
    pub major: Option<u32>,
    /// Minor number; `None` is every one.
    pub minor: Option<u32>,
    /// Any of `r`, `w`, `m`.
    pub access: String,
    /// Mode of the node.
    #[serde(default)]
    pub file_mode: u32,
    /// Owner of the node inside the job.
    #[serde(default)]
    pub uid: u32,
    /// Group of the node inside the job.
    #[serde(default)]
    pub gid: u32,
}

/// A service that the supervisor registers for the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Name in discoverd.
    pub name: String,
    /// PUT the service first.
    pub create: bool,
    /// `tcp` or `udp`.
    pub proto: String,
    /// `ip:port` others reach it at; checks connect there too.
    pub addr: String,
    /// Registered at once when `None`.
    #[serde(default)]
    pub check: Option<HealthCheck>,
}

/// Kind of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// A connection is enough.
    Tcp,
    /// A GET with the expected answer.
    Http,
    /// As http over TLS; asked of the daemon.
    Https,
}

/// A health check with its defaults filled in (spec/host.md §5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// tcp, http or https.
    pub kind: CheckKind,
    /// Between checks; 2 s.
    pub interval: Duration,
    /// Consecutive results that change the status; 2.
    pub threshold: u32,
    /// Kill the job when it is down.
    pub kill_down: bool,
    /// How long `kill_down` ignores what happens at first; 10 s.
    pub start_timeout: Duration,
    /// Path of the request.
    pub path: String,
    /// Host header.
    pub host: String,
    /// Text that must occur in the first 5120 bytes; empty for any.
    pub expect_text: String,
    /// Expected status; 200.
    pub expect_status: u16,
}

impl HealthCheck {
    /// A check of `kind` with the defaults of the wire.
    pub fn new(kind: CheckKind) -> Self {
        Self {
            kind,
            interval: Duration::from_secs(2),
            threshold: 2,
            kill_down: false,
            start_timeout: Duration::from_secs(10),
            path: "/".to_owned(),
            host: String::new(),
            expect_text: String::new(),
            expect_status: 200,
        }
    }
}
