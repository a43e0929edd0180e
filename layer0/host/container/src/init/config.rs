//! What supervisor and init tell each other. Both are the same binary, so there is no versioning.

use serde::{Deserialize, Serialize};

use super::Capabilities;
use crate::protocol::Rlimits;

/// From the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ToInit {
    /// First message: what to set up. Carries one descriptor: the root, as a detached mount.
    Config(Box<InitConfig>),
    /// Start the program.
    Resume,
    /// Send this signal to the program.
    Signal { signal: i32 },
}

/// From init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// All set up. Carries descriptors: with a terminal its master, else the reading ends of stdout
    /// and stderr and, when asked for, the writing end of stdin.
    Ready,
    /// The program was executed.
    Running,
    /// The program never ran.
    Failed { error: String },
    /// Somebody in the job sent TERM or INT to its first process.
    Relay { signal: i32 },
    /// The program ended.
    Exited { code: Option<i32>, signal: Option<i32> },
}

/// Everything init has to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InitConfig {
    pub(crate) has_user_namespace: bool,
    pub(crate) hostname: String,
    pub(crate) cgroups: Vec<CgroupMount>,
    pub(crate) writeable_cgroups: bool,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) working_dir: String,
    pub(crate) rlimits: Rlimits,
    pub(crate) capabilities: Capabilities,
}

/// A view of the job's own groups under `/sys/fs/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupMount {
    /// Folder below `/sys/fs/cgroup`; empty for `/sys/fs/cgroup` itself.
    pub(crate) name: String,
    /// Controllers of v1; empty for the v2 tree.
    pub(crate) controllers: String,
}
