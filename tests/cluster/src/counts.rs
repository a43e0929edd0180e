//! What a host has of everything that jobs take and must give back.

use std::path::Path;

use crate::node::Node;

/// Scratch disks that a host keeps ready once it has had a job.
const SPARE_DISKS: usize = 4;

/// What must not grow with the number of jobs that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    cgroups: usize,
    processes: usize,
    mounts: usize,
    loops: usize,
    spare_disks: usize,
    firewall_programs: usize,
    daemon_files: usize,
}

impl Counts {
    /// Whether what the next job will find ready is there.
    pub fn is_ready(&self) -> bool {
        self.spare_disks == SPARE_DISKS
    }

    /// Whether nothing has grown since then.
    pub fn is_within(&self, before: &Self) -> bool {
        self.cgroups <= before.cgroups
            && self.processes <= before.processes
            && self.mounts <= before.mounts
            && self.loops <= before.loops
            && self.spare_disks <= before.spare_disks
            // One waits for more to do for a while.
            && self.firewall_programs <= 1
            && self.daemon_files <= before.daemon_files
    }

    /// What there is now.
    pub fn now(node: &Node) -> Self {
        let prefix = std::env::var(harness::sandbox::PREFIX_ENV).unwrap_or_default();
        let daemon = node.host.pids("flynn-host").first().copied().unwrap_or(0);
        let listing = |path: String| std::fs::read_dir(path).into_iter().flatten().count();
        let mounts = std::fs::read_to_string(format!("/proc/{daemon}/mounts")).unwrap_or_default();
        let processes = ["flynn-init", "test-apps", "init"].map(|name| node.host.pids(name).len());
        Self {
            cgroups: harness::sweep::cgroups_below(&format!("{prefix}-{}", node.host.id)),
            processes: processes.iter().sum(),
            mounts: mounts.lines().count(),
            loops: loops_of(&node.data_dir()),
            // Those that are mounted, each of which has an image beside it.
            spare_disks: mounts.lines().filter(|line| line.contains("/scratch/spares/")).count(),
            firewall_programs: node.host.pids("nft").len(),
            daemon_files: listing(format!("/proc/{daemon}/fd")),
        }
    }
}

/// Loop devices of files below a folder.
fn loops_of(dir: &Path) -> usize {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let files = devices
        .filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.filter(|file| Path::new(file).starts_with(dir)).count()
}
