//! What can happen to hosts: lost connections, processes that end or hang, full disks.

use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::command;
use crate::hosts::{BRIDGE, Host, Hosts, link_of, outside};

/// What names of bridges begin with that hosts are moved to when they are cut off; the first one's id
/// follows.
const ISLAND: &str = "fi-";
/// The file that fills a disk, in its topmost folder.
const FILLER: &str = "filler";

impl Hosts {
    /// Cuts these hosts off from the others and from the outside.
    pub fn partition(&self, ids: &[&str]) -> anyhow::Result<()> {
        let first = ids.first().context("which hosts?")?;
        let island = format!("{ISLAND}{first}");
        if links()?.iter().all(|link| link.ifname != island) {
            outside(&["link", "add", &island, "type", "bridge"])?;
            outside(&["link", "set", &island, "up"])?;
        }
        for id in ids {
            outside(&["link", "set", &link_of(id), "master", &island])?;
        }
        Ok(())
    }

    /// Joins what was cut off.
    pub fn heal(&self) -> anyhow::Result<()> {
        let links = links()?;
        for link in links.iter().filter(|link| link.master.starts_with(ISLAND)) {
            outside(&["link", "set", &link.ifname, "master", BRIDGE])?;
        }
        for island in links.iter().filter(|link| link.ifname.starts_with(ISLAND)) {
            outside(&["link", "del", &island.ifname])?;
        }
        Ok(())
    }
}

/// What `ip -json link` says of a link.
#[derive(Debug, Deserialize)]
struct Link {
    ifname: String,
    #[serde(default)]
    master: String,
}

/// The links of this network; /sys shows those of whoever mounted it.
fn links() -> anyhow::Result<Vec<Link>> {
    Ok(serde_json::from_str(&outside(&["-json", "link", "show"])?)?)
}

impl Host {
    /// The processes people mean by a name: the daemon is `flynn-host`, a component goes by its word
    /// (`discoverd`, `router`, `scheduler`; the overlay also as `flannel`), anything else by its file.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        if name == "flynn-host" {
            let daemons = self.pids("flynn-host").into_iter();
            return daemons.filter(|pid| words(*pid).iter().any(|word| word == "daemon")).collect();
        }
        let name = if name == "flannel" { "overlay" } else { name };
        let is_meant = |pid: &i32| {
            let words = words(*pid);
            let file = words.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            file == name || words.get(1).is_some_and(|word| word == name)
        };
        self.job_pids().into_iter().filter(is_meant).collect()
    }

    /// Sends a signal to every process of that name; an error when there is none.
    pub fn signal(&self, name: &str, signal: libc::c_int) -> anyhow::Result<usize> {
        let pids = self.processes(name);
        if pids.is_empty() {
            bail!("host {} has no process {name}", self.id);
        }
        for pid in &pids {
            // SAFETY: kill takes numbers only; the process is one of this sandbox.
            unsafe { libc::kill(*pid, signal) };
        }
        Ok(pids.len())
    }

    /// Every process of that name stands still.
    pub fn freeze(&self, name: &str) -> anyhow::Result<usize> {
        self.signal(name, libc::SIGSTOP)
    }

    /// They go on; `all` means everything on the host.
    pub fn thaw(&self, name: &str) -> anyhow::Result<usize> {
        if name != "all" {
            return self.signal(name, libc::SIGCONT);
        }
        let pids = self.everything();
        for pid in &pids {
            // SAFETY: kill takes numbers only; the process is one of this sandbox.
            unsafe { libc::kill(*pid, libc::SIGCONT) };
        }
        Ok(pids.len())
    }

    /// Gives the host's data a disk of its own of `size`, as truncate(1) has it. Blocks that nobody wrote
    /// cost nothing.
    pub fn bound_disk(&self, size: &str) -> anyhow::Result<()> {
        let (image, data) = (self.dir.join("disk.img"), self.data_dir());
        let image = image.to_string_lossy();
        std::fs::create_dir_all(&data)?;
        command::run(&["truncate", "--size", size, &image])?;
        command::run(&["mkfs.ext4", "-q", "-F", "-m", "0", &image])?;
        self.run(&["mount", "-o", "loop", &image, &data.to_string_lossy()])
    }

    /// The host, on which nothing runs, gets a new, empty disk in place of its [bounded](Self::bound_disk)
    /// one.
    pub fn lose_disk(&self, size: &str) -> anyhow::Result<()> {
        self.must_be_bounded()?;
        self.run(&["umount", "--recursive", &self.data_dir().to_string_lossy()])?;
        std::fs::remove_file(self.dir.join("disk.img"))?;
        self.bound_disk(size)
    }

    /// Not a byte is left on the host's disk, which must be a bounded one.
    pub fn fill_disk(&self) -> anyhow::Result<()> {
        let of = format!("of={}", self.data_dir().join(FILLER).display());
        self.must_be_bounded()?;
        // Most of it at once and without writing; the rest in ever smaller pieces until nothing fits.
        let seen_from_here = format!("/proc/{}/root{}", self.init_pid(), self.data_dir().display());
        let free = rustix::fs::statvfs(seen_from_here)?;
        let most = (free.f_bavail * free.f_frsize).saturating_sub(8 << 20).to_string();
        let filler = self.data_dir().join(FILLER);
        if most != "0" {
            self.run(&["fallocate", "-l", &most, &filler.to_string_lossy()])?;
        }
        for block in ["bs=1M", "bs=4k"] {
            let mut dd = self.command("dd");
            dd.args(["if=/dev/zero", block, "oflag=append", "conv=notrunc", "status=none", &of]);
            let done = dd.stdin(Stdio::null()).output()?;
            let said = String::from_utf8_lossy(&done.stderr);
            if !said.contains("No space left") {
                bail!("the disk is not full: {said}");
            }
        }
        Ok(())
    }

    /// Takes away what [`fill_disk`](Self::fill_disk) wrote.
    pub fn free_disk(&self) -> anyhow::Result<()> {
        self.run(&["rm", "--force", &self.data_dir().join(FILLER).to_string_lossy()])
    }

    fn must_be_bounded(&self) -> anyhow::Result<()> {
        let data = self.data_dir();
        let data = data.to_string_lossy();
        if self.run(&["mountpoint", "--quiet", &data]).is_err() {
            bail!("the disk of host {} is the machine's own", self.id);
        }
        Ok(())
    }

    /// Runs a program on the host that must succeed.
    pub fn run(&self, argv: &[&str]) -> anyhow::Result<()> {
        let (program, args) = argv.split_first().context("an empty command")?;
        let done = self.command(program).args(args).stdin(Stdio::null()).output()?;
        if !done.status.success() {
            bail!("{argv:?}: {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(())
    }
}

/// A process's arguments.
fn words(pid: i32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    words.map(std::borrow::Cow::into_owned).collect()
}
