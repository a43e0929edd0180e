//! Hosts of a test cluster as namespaces inside a sandbox.
//!
//! A host has a network namespace on a common bridge (with NAT to the sandbox's way out), a pinned
//! mount namespace and a process namespace. A *power cut* ends every process of the host at once; disk
//! and mounts stay.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::{command, sandbox};

/// The bridge all hosts are on that are not cut off.
pub(crate) const BRIDGE: &str = "fhosts";
const NETWORK: [u8; 3] = [172, 31, 0];

/// The network all hosts of a sandbox share.
#[derive(Debug)]
pub struct Hosts {
    dir: PathBuf,
}

/// How many hosts this process has made; tests of one process share the network.
static ADDED: Mutex<u8> = Mutex::new(0);

/// One host.
#[derive(Debug)]
pub struct Host {
    /// Its id, as in `--id`.
    pub id: String,
    /// Its external address.
    pub ip: Ipv4Addr,
    /// Its disk.
    pub dir: PathBuf,
    init: Option<Child>,
    init_pid: u32,
}

impl Hosts {
    /// The network of this sandbox. Fails outside of one: tests never touch the machine's network.
    pub fn in_sandbox() -> anyhow::Result<Self> {
        let state = std::env::var_os(sandbox::STATE_ENV).context(
            "cluster tests run in a sandbox: use script/test, or `flynn-dev sandbox -- …`",
        )?;
        let dir = PathBuf::from(state).join("hosts");
        std::fs::create_dir_all(&dir)?;
        let hosts = Self { dir };
        let _turn = ADDED.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.make_bridge()?;
        Ok(hosts)
    }

    fn make_bridge(&self) -> anyhow::Result<()> {
        let [a, b, c] = NETWORK;
        let known = Command::new("ip").args(["link", "show", BRIDGE]).output()?.status.success();
        if known {
            return Ok(());
        }
        command::run(&["ip", "link", "add", BRIDGE, "type", "bridge"])?;
        command::run(&["ip", "addr", "add", &format!("{a}.{b}.{c}.1/24"), "dev", BRIDGE])?;
        command::run(&["ip", "link", "set", BRIDGE, "up"])?;
        let rules = format!(
            "table ip fhosts {{\n chain out {{\n type nat hook postrouting priority 100;\n \
             ip saddr {a}.{b}.{c}.0/24 ip daddr != {a}.{b}.{c}.0/24 masquerade\n }}\n}}\n"
        );
        command::with_input(&["nft", "-f", "-"], rules.as_bytes())?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        Ok(())
    }

    /// A new host, booted, with nothing running on it.
    pub fn add(&self, id: &str) -> anyhow::Result<Host> {
        let number = {
            let mut added = ADDED.lock().unwrap_or_else(PoisonError::into_inner);
            *added += 1;
            *added
        };
        let [a, b, c] = NETWORK;
        let ip = Ipv4Addr::new(a, b, c, 10 + number);
        let dir = self.dir.join(id);
        std::fs::create_dir_all(&dir)?;
        connect(id, ip)?;
        let pin = dir.join("mount-namespace");
        std::fs::write(&pin, "")?;
        name_mount_namespace(&pin)?;
        let mut host = Host { id: id.to_owned(), ip, dir, init: None, init_pid: 0 };
        host.boot()?;
        Ok(host)
    }
}

/// Makes a mount namespace with a name. The kernel names only namespaces with a number above that of
/// the namer's, and since 6.18 each processor hands out numbers of its own: one of them will do.
fn name_mount_namespace(pin: &Path) -> anyhow::Result<()> {
    let mut last = Ok(());
    for processor in 0..std::thread::available_parallelism()?.get() {
        let pin = format!("--mount={}", pin.display());
        let processor = processor.to_string();
        let unshare = ["unshare", &pin, "--propagation", "private", "true"];
        last = command::run(&[&["taskset", "-c", &processor], &unshare[..]].concat());
        if last.is_ok() {
            break;
        }
    }
    last
}

fn connect(id: &str, ip: Ipv4Addr) -> anyhow::Result<()> {
    let [a, b, c] = NETWORK;
    let inside = ["ip", "-n", id];
    let device = link_of(id);
    command::run(&["ip", "netns", "add", id])?;
    outside(&["link", "add", &device, "type", "veth", "peer", "name", "eth0", "netns", id])?;
    outside(&["link", "set", &device, "master", BRIDGE, "up"])?;
    for rest in [
        vec!["link", "set", "lo", "up"],
        vec!["addr", "add", &format!("{ip}/24"), "dev", "eth0"],
        vec!["link", "set", "eth0", "up"],
        vec!["route", "add", "default", "via", &format!("{a}.{b}.{c}.1")],
    ] {
        command::run(&[&inside[..], &rest[..]].concat())?;
    }
    Ok(())
}

/// Runs `ip` in the network of the sandbox, wherever this thread lives: tests live on a host.
pub(crate) fn outside(args: &[&str]) -> anyhow::Result<String> {
    let enter = ["nsenter", "--net=/proc/1/ns/net", "ip"];
    command::output(&[&enter[..], args].concat())
}

/// The bridge's end of a host's link.
pub(crate) fn link_of(id: &str) -> String {
    format!("h-{id}")
}

impl Host {
    /// The host's first process, as this process sees it.
    pub fn init_pid(&self) -> u32 {
        self.init_pid
    }

    /// Starts the host's first process; the daemons are started by the test.
    fn boot(&mut self) -> anyhow::Result<()> {
        let pid_file = self.dir.join("init.pid");
        drop(std::fs::remove_file(&pid_file));
        let child = Command::new(flynn_dev()?)
            .arg("host-init")
            .arg(&self.id)
            .arg(&self.dir)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start the host's init")?;
        self.init = Some(child);
        let text = eventually(Duration::from_secs(60), || {
            std::fs::read_to_string(&pid_file).ok().filter(|text| text.ends_with('\n'))
        });
        self.init_pid = text.context("the host did not boot")?.trim().parse()?;
        Ok(())
    }

    /// A command that will run on this host, as another process of it.
    pub fn command<S: AsRef<OsStr>>(&self, program: S) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init_pid));
        command.args(["--mount", "--net", "--pid", "--"]).arg(program);
        command.current_dir("/");
        command
    }

    /// The process ids (as this process sees them) of the host's processes named `name`.
    pub fn pids(&self, name: &str) -> Vec<i32> {
        let named = |pid: &i32| {
            let known = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            known.trim() == name
        };
        self.all_pids().into_iter().filter(named).collect()
    }

    /// The process ids of everything in the host's own process namespace.
    fn all_pids(&self) -> Vec<i32> {
        let Ok(ours) = std::fs::read_link(format!("/proc/{}/ns/pid", self.init_pid)) else {
            return Vec::new();
        };
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let numbers =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let on_host = |pid: &i32| {
            let namespace = std::fs::read_link(format!("/proc/{pid}/ns/pid"));
            namespace.is_ok_and(|namespace| namespace == ours)
        };
        numbers.filter(on_host).collect()
    }

    /// SIGKILL to every process of the host named `name` that was given `word` as an argument. Says how
    /// many there were.
    pub fn kill(&self, name: &str, word: &str) -> usize {
        let given = |pid: &i32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).any(|given| given == word.as_bytes())
        };
        let pids: Vec<_> = self.pids(name).into_iter().filter(given).collect();
        for pid in &pids {
            // SAFETY: kill takes numbers only; the process is one of this sandbox.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        pids.len()
    }

    /// SIGKILL to every process of [`pids_in_jobs`](Self::pids_in_jobs). Says how many there were.
    pub fn kill_in_jobs(&self, program: &str, word: &str) -> usize {
        let pids = self.pids_in_jobs(program, word);
        for pid in &pids {
            // SAFETY: kill takes numbers only; the process is one of this sandbox.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        pids.len()
    }

    /// Processes in the host's jobs whose program has this file name and which were given `word` as an
    /// argument.
    pub fn pids_in_jobs(&self, program: &str, word: &str) -> Vec<i32> {
        let wanted = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            let named = words.next().is_some_and(|path| path.rsplit('/').next() == Some(program));
            named && words.any(|given| given == word)
        };
        self.job_pids().into_iter().filter(wanted).collect()
    }

    /// SIGKILL to the supervisor of one of the jobs in which [`pids_in_jobs`](Self::pids_in_jobs) finds
    /// such a program. Says whether there was one.
    pub fn kill_supervisor_of(&self, program: &str, word: &str) -> bool {
        let pids = self.pids_in_jobs(program, word);
        let Some(supervisor) = pids.into_iter().find_map(supervisor_of) else { return false };
        // SAFETY: kill takes numbers only; the process is one of this sandbox.
        unsafe { libc::kill(supervisor, libc::SIGKILL) == 0 }
    }

    /// Every process of the host but its first one: daemon, supervisors, and all in jobs.
    pub fn everything(&self) -> Vec<i32> {
        let mut pids = self.all_pids();
        pids.extend(self.job_pids());
        pids.sort_unstable();
        pids.dedup();
        pids.retain(|pid| u32::try_from(*pid) != Ok(self.init_pid));
        pids
    }

    /// Everything in the cgroups of the host's jobs, whatever namespace it is in.
    pub(crate) fn job_pids(&self) -> Vec<i32> {
        let prefix = std::env::var(sandbox::PREFIX_ENV).unwrap_or_default();
        let group = format!("/{prefix}-{}/", self.id);
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let numbers =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let in_group = |pid: &i32| {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
            groups.is_ok_and(|groups| groups.contains(&group))
        };
        numbers.filter(in_group).collect()
    }

    /// Every process of the host but its first one ends at once; its disk and its mounts stay. Returns
    /// when they are gone.
    pub fn power_cut(&self) -> anyhow::Result<()> {
        let mut cut = self.command("kill");
        // From inside of a process namespace, -1 is everybody but its init.
        cut.args(["-KILL", "--", "-1"]).stdin(Stdio::null()).stderr(Stdio::null());
        let gone = eventually(Duration::from_secs(60), || {
            drop(cut.status());
            (self.all_pids().into_iter().filter(|pid| lives(*pid)).count() <= 1).then_some(())
        });
        gone.context("processes of the host outlived the power cut")
    }

    /// The host's first process ends, and with it all others.
    fn end(&mut self) {
        if let Some(mut init) = self.init.take() {
            drop(init.kill());
            drop(init.wait());
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
        drop(command::run(&["ip", "netns", "del", &self.id]));
        let pin = self.dir.join("mount-namespace");
        drop(command::run(&["umount", "--lazy", &pin.to_string_lossy()]));
    }
}

/// The first process of a host: enters its namespaces, starts a process namespace, reaps.
/// Called by `flynn-dev host-init`.
pub fn host_init(id: &str, dir: &Path) -> anyhow::Result<ExitCode> {
    sandbox::die_with_parent()?;
    if std::process::id() == 1 {
        command::run(&["mount", "-t", "proc", "proc", "/proc"])?;
        return sandbox::reap_until(-1);
    }
    // Found before the namespace is entered: its /proc is that of the boot before.
    let program = flynn_dev()?;
    enter(&dir.join("mount-namespace"), libc::CLONE_NEWNS)?;
    enter(&Path::new("/run/netns").join(id), libc::CLONE_NEWNET)?;
    sandbox::unshare(libc::CLONE_NEWPID)?;
    let mut first = Command::new(program).arg("host-init").arg(id).arg(dir).spawn()?;
    let part = dir.join("init.pid.part");
    std::fs::write(&part, format!("{}\n", first.id()))?;
    std::fs::rename(part, dir.join("init.pid"))?;
    first.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a process has not ended. One that has may wait to be heard of: nsenter(1) stands still with its
/// child, and stays so when only that goes on.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// The nearest ancestor that supervises a job.
fn supervisor_of(pid: i32) -> Option<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    let supervises = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == b"supervise")
    };
    std::iter::successors(parent(pid), |pid| parent(*pid)).find(supervises)
}

fn enter(path: &Path, kind: libc::c_int) -> anyhow::Result<()> {
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    // SAFETY: the descriptor is open for the length of the call; this process is single threaded.
    if unsafe { libc::setns(file.as_raw_fd(), kind) } != 0 {
        let error = std::io::Error::last_os_error();
        return Err(error).with_context(|| format!("cannot enter {}", path.display()));
    }
    Ok(())
}

/// The `flynn-dev` program: this one, or beside the test binary.
fn flynn_dev() -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe()?;
    for directory in me.ancestors().skip(1).take(2) {
        let candidate = directory.join("flynn-dev");
        if candidate.exists() {
            return Ok(candidate);
        }
    }
    bail!("flynn-dev is not beside {}: build the workspace first", me.display())
}

/// Tries `attempt` until it gives something or `limit` is over.
pub fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return Some(found);
        }
        if started.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
