//! Which cgroup file systems are mounted where.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files;
use super::{v1, v2};

/// Controllers of v1 that jobs are put into.
const V1_CONTROLLERS: [&str; 11] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls",
    "net_prio",
    "perf_event",
];

/// The group of supervisors below a host's prefix.
const SUPERVISORS: &str = "supervisors";

/// What the machine offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupMode {
    /// Only controllers of v1.
    V1,
    /// Only the v2 tree, with its controllers.
    V2,
    /// Controllers of v1 and a v2 tree without cpu, memory and pids.
    Hybrid,
}

/// One mounted v1 hierarchy: often one controller, sometimes several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) controllers: Vec<String>,
    pub(crate) mount: PathBuf,
}

/// The mounted cgroup trees of this machine.
#[derive(Clone, Debug)]
pub struct Cgroups {
    pub(crate) v1: Vec<Hierarchy>,
    pub(crate) unified: Option<PathBuf>,
    /// Where systemd of a v1 machine keeps track of units; no job goes there.
    systemd: Option<PathBuf>,
}

impl Cgroups {
    /// Reads them from `/proc/self/mountinfo`.
    pub fn detect() -> io::Result<Self> {
        let found = Self::from_mountinfo(&fs::read_to_string("/proc/self/mountinfo")?);
        if found.v1.is_empty() && found.unified.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "no cgroup file system is mounted",
            ));
        }
        Ok(found)
    }

    /// v1, v2 or both.
    pub fn mode(&self) -> CgroupMode {
        match (self.v1.is_empty(), self.unified.is_some()) {
            (false, true) => CgroupMode::Hybrid,
            (false, false) => CgroupMode::V1,
            (true, _) => CgroupMode::V2,
        }
    }

    /// What of memory, cpu and processes cannot be limited here, because no tree has its controller.
    pub fn missing_limits(&self) -> Vec<&'static str> {
        let unified = self.unified.as_deref().map(v2::controllers).unwrap_or_default();
        let has =
            |name: &str| self.controller(name).is_some() || unified.iter().any(|have| have == name);
        ["memory", "cpu", "pids"].into_iter().filter(|name| !has(name)).collect()
    }

    /// Makes a partition, or sets its CPU shares when it exists (spec/host.md §2, partitions).
    pub fn ensure_partition(
        &self,
        prefix: &str,
        partition: &str,
        cpu_shares: u64,
    ) -> io::Result<()> {
        let path = files::relative(&[prefix, partition])?;
        for hierarchy in &self.v1 {
            v1::make(hierarchy, &path)?;
            if hierarchy.has("cpu") {
                files::write(
                    &hierarchy.mount.join(&path).join("cpu.shares"),
                    &cpu_shares.to_string(),
                )?;
            }
        }
        if let Some(unified) = &self.unified {
            v2::make(unified, &path)?;
            v2::set_weight(&unified.join(&path), cpu_shares)?;
        }
        Ok(())
    }

    /// Moves a supervisor out of its daemon's unit, into a group beside the partitions.
    pub(crate) fn adopt_supervisor(&self, prefix: &str, pid: u32) -> io::Result<()> {
        let path = files::relative(&[prefix, SUPERVISORS])?;
        if let Some(unified) = &self.unified {
            v2::make(unified, &path)?;
            files::write(&unified.join(&path).join("cgroup.procs"), &pid.to_string())?;
        }
        let Some(systemd) = &self.systemd else { return Ok(()) };
        let dir = systemd.join(&path);
        fs::create_dir_all(&dir)?;
        files::write(&dir.join("cgroup.procs"), &pid.to_string())
    }

    /// Directories of `path` in all trees, the unified one last.
    pub(crate) fn dirs(&self, path: &Path) -> Vec<PathBuf> {
        self.v1
            .iter()
            .map(|h| &h.mount)
            .chain(&self.unified)
            .map(|mount| mount.join(path))
            .collect()
    }

    /// The hierarchy of a v1 controller.
    pub(crate) fn controller(&self, name: &str) -> Option<&Hierarchy> {
        self.v1.iter().find(|hierarchy| hierarchy.has(name))
    }

    fn from_mountinfo(text: &str) -> Self {
        let mut found = Self { v1: Vec::new(), unified: None, systemd: None };
        for line in text.lines() {
            found.take_line(line);
        }
        found
    }

    /// `36 35 98:0 /root /mount opts [optional] - type source superoptions`
    fn take_line(&mut self, line: &str) -> Option<()> {
        let (left, right) = line.split_once(" - ")?;
        let mount = PathBuf::from(left.split(' ').nth(4)?.replace("\\040", " "));
        let mut right = right.split(' ');
        let kind = right.next()?;
        let options = right.nth(1)?;
        match kind {
            "cgroup2" if self.unified.is_none() => self.unified = Some(mount),
            "cgroup" if options.split(',').any(|option| option == "name=systemd") => {
                self.systemd = self.systemd.take().or(Some(mount));
            }
            "cgroup" => {
                let controllers: Vec<_> = options
                    .split(',')
                    .filter(|option| V1_CONTROLLERS.contains(option))
                    .map(str::to_owned)
                    .collect();
                let known = controllers.iter().any(|name| self.controller(name).is_some());
                if !controllers.is_empty() && !known {
                    self.v1.push(Hierarchy { controllers, mount });
                }
            }
            _ => {}
        }
        Some(())
    }
}

impl Hierarchy {
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_is_told_by_its_mounts() {
        let found = Cgroups::from_mountinfo(
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
             27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n",
        );
        assert_eq!(found.mode(), CgroupMode::Hybrid);
        assert_eq!(found.v1.len(), 2);
        assert_eq!(
            found.controller("cpuacct").unwrap().mount,
            Path::new("/sys/fs/cgroup/cpu,cpuacct")
        );
        assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn a_machine_with_only_the_unified_tree_is_v2() {
        let found = Cgroups::from_mountinfo(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert_eq!(found.mode(), CgroupMode::V2);
    }
}
