//! Making the container: from a description to an init that is setting itself up. Everything that
//! needs the host's root happens here (userns.md §1 A to I), in a mount namespace of its own.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, MemfdFlags, SealFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, open_tree,
    unmount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::cgroup::{Cgroups, Entrance, JobCgroup, OomWatch, rules};
use crate::container::{
    IdMap, InRoot, Overlay, bind_mount, config_mount, mount_overlay, populate_dev, write_maps,
};
use crate::error::{SetupError, Step};
use crate::init::{Capabilities, CgroupMount, Channel, INIT, InitConfig, ToInit};
use crate::protocol::{JobSpec, NetworkSpec};
use crate::sys::{self, ATTR_RDONLY, Cloned};

/// How long a failed start waits for its groups to empty.
const CLEAN_UP: Duration = Duration::from_secs(2);

/// A job's container, whose init is on its way.
pub(super) struct Container {
    pub(super) channel: Channel,
    pub(super) init_pid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) cgroup: JobCgroup,
    pub(super) oom: Option<OomWatch>,
    /// What should be limited and cannot be.
    pub(super) unlimited: Vec<&'static str>,
}

/// Makes it; on failure nothing is left.
pub(super) fn start(spec: &JobSpec) -> Result<Container, SetupError> {
    let capabilities = Capabilities::parse(&spec.capabilities)
        .map_err(|error| SetupError::because("reading capabilities", &error.to_string()))?;
    let trees = Cgroups::detect().step("finding control groups")?;
    let place = &spec.cgroup;
    let cgroup = trees.create(place, &rules(&spec.devices)).step("making control groups");
    let started = cgroup.and_then(|cgroup| start_in(spec, capabilities, &trees, cgroup));
    if started.is_err()
        && let Ok(job) = trees.job(&place.prefix, &place.partition, &place.name)
    {
        // What stays is swept by the next daemon; the failure to start is what matters here.
        let _ = job.kill().and_then(|()| job.remove(CLEAN_UP));
    }
    started
}

fn start_in(
    spec: &JobSpec,
    capabilities: Capabilities,
    trees: &Cgroups,
    cgroup: JobCgroup,
) -> Result<Container, SetupError> {
    // Before the mount namespace changes: only mounts of one's own namespace can be copied.
    let program = own_program().step("opening init")?;
    private_mounts().step("making a mount namespace")?;
    let (channel, theirs) = Channel::pair().step("making a channel")?;
    let entrance = cgroup.entrance().step("opening control groups")?;
    let network = HostNetwork::leave(&spec.network)?;
    let mut first = FirstProcess::clone(spec, &program, channel, theirs, &entrance)?;
    // Init comes up and waits for its root while that is built.
    first.go().step("starting init")?;
    let root = build_root(spec, &first)?;
    network.come_back()?;
    let config = init_config(spec, capabilities, trees);
    first
        .channel
        .send(&ToInit::Config(Box::new(config)), &[root.as_fd()])
        .step("configuring init")?;
    let oom = cgroup.oom_watch().step("watching for lack of memory")?;
    let (channel, init_pid, pidfd) = first.release();
    Ok(Container { channel, init_pid, pidfd, cgroup, oom, unlimited: trees.missing_limits() })
}

/// A descriptor of this very program that nobody in a job can write through, even as the host's
/// root: a read-only mount of the file, so that its pages stay shared; else a sealed copy.
fn own_program() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if let Ok(tree) = open_tree(CWD, "/proc/self/exe", flags)
        && sys::set_mount_attributes(tree.as_fd(), ATTR_RDONLY, None, false).is_ok()
    {
        return Ok(tree);
    }
    let copy =
        rustix::fs::memfd_create("flynn-init", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

fn private_mounts() -> io::Result<()> {
    // SAFETY: only the view of mounts changes, no descriptor table.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// The way back to the host's network, while the supervisor is in the job's: what is made there
/// (init, sysfs) belongs to the job's network, whose owner stays the host.
struct HostNetwork(Option<OwnedFd>);

impl HostNetwork {
    fn leave(network: &NetworkSpec) -> Result<Self, SetupError> {
        let NetworkSpec::Namespace(path) = network else { return Ok(Self(None)) };
        let host = File::open("/proc/self/ns/net").step("remembering the network")?;
        let target =
            File::open(path).step_with(|| format!("opening network {}", path.display()))?;
        move_into_link_name_space(target.as_fd(), Some(LinkNameSpaceType::Network))
            .step_with(|| format!("entering network {}", path.display()))?;
        Ok(Self(Some(host.into())))
    }

    fn come_back(&self) -> Result<(), SetupError> {
        let Some(host) = &self.0 else { return Ok(()) };
        move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network))
            .step("leaving the network")
    }
}

/// The cloned process that will be init; killed when dropped before it is released.
struct FirstProcess {
    pid: u32,
    guard: Guard,
    pidfd: OwnedFd,
    channel: Channel,
    start: Option<io::PipeWriter>,
    namespace: Option<OwnedFd>,
    base: u32,
}

impl FirstProcess {
    fn clone(
        spec: &JobSpec,
        program: &OwnedFd,
        channel: Channel,
        theirs: Channel,
        entrance: &Entrance,
    ) -> Result<Self, SetupError> {
        let (wait, start) = io::pipe().step("making a pipe")?;
        let mut flags = libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if !spec.host_pid_namespace {
            flags |= libc::CLONE_NEWPID;
        }
        if spec.user_namespace.is_some() {
            flags |= libc::CLONE_NEWUSER;
        }
        match clone_as_owner(spec, flags as u64, entrance).step("making namespaces")? {
            Cloned::Child => {
                drop((channel, start));
                become_init(spec.user_namespace.is_some(), wait, program, &theirs, entrance)
            }
            Cloned::Parent(pid, pidfd) => {
                drop((theirs, wait));
                let mut first = Self {
                    pid,
                    guard: Guard(Some(pid)),
                    pidfd,
                    channel,
                    start: Some(start),
                    namespace: None,
                    base: 0,
                };
                judge_as_others(pid).step("leaving the daemon's protection")?;
                if let Some(range) = spec.user_namespace {
                    write_maps(pid, range).step("writing the id maps")?;
                    let namespace = File::open(format!("/proc/{pid}/ns/user"));
                    first.namespace = Some(namespace.step("opening the user namespace")?.into());
                    first.base = range.base;
                }
                Ok(first)
            }
        }
    }

    fn ids(&self) -> IdMap<'_> {
        match &self.namespace {
            Some(namespace) => IdMap::new(namespace.as_fd(), self.base),
            None => IdMap::HOST,
        }
    }

    fn go(&mut self) -> io::Result<()> {
        self.start.take().map_or(Ok(()), |mut start| start.write_all(&[1]))
    }

    /// It is init now: from here on the supervisor's loop watches it.
    fn release(mut self) -> (Channel, u32, OwnedFd) {
        self.guard.0 = None;
        (self.channel, self.pid, self.pidfd)
    }
}

/// Kills and reaps a process that was not released.
struct Guard(Option<u32>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = sys::kill(pid as i32, libc::SIGKILL);
            sys::wait_for(pid as i32);
        }
    }
}

/// A daemon may be protected from the kernel's killing for lack of memory; its jobs are not.
fn judge_as_others(pid: u32) -> io::Result<()> {
    if std::fs::read_to_string("/proc/self/oom_score_adj")?.starts_with('-') {
        std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0")?;
    }
    Ok(())
}

/// Clones with the range's first id as effective user, so that it owns the user namespace and
/// per-user counters (inotify and others) are the app's own and not all of root's. Being born in a
/// group takes the powers of root again.
fn clone_as_owner(spec: &JobSpec, flags: u64, entrance: &Entrance) -> io::Result<Cloned> {
    let group = entrance.unified();
    let Some(range) = spec.user_namespace else { return sys::clone3(flags, group) };
    sys::set_effective_uid(range.base)?;
    let cloned = sys::use_all_capabilities().and_then(|()| sys::clone3(flags, group));
    if matches!(cloned, Ok(Cloned::Child)) {
        return cloned;
    }
    sys::set_effective_uid(0)?;
    match cloned {
        // Some distributions let only privileged users make user namespaces.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => sys::clone3(flags, group),
        other => other,
    }
}

/// The child: enters its groups, waits for its id maps, becomes root of its namespace, executes init.
fn become_init(
    mapped: bool,
    mut wait: io::PipeReader,
    program: &OwnedFd,
    channel: &Channel,
    entrance: &Entrance,
) -> ! {
    let mut attempt = || -> io::Result<io::Error> {
        sys::die_with_parent()?;
        entrance.enter()?;
        wait.read_exact(&mut [0])?;
        if mapped {
            sys::become_user(0, 0)?;
        }
        // SAFETY: only the view of mounts changes, no descriptor table.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        sys::keep_across_exec(channel)?;
        let number = channel.as_fd().as_raw_fd().to_string();
        let args = [c"flynn-init".to_owned(), CString::new(INIT)?, CString::new(number)?];
        Ok(sys::exec_descriptor(program.as_fd(), &args, &[]))
    };
    // The supervisor learns of a failure by the end of the channel.
    let _ = attempt();
    sys::exit_now(70)
}

/// The complete root as one detached mount.
fn build_root(spec: &JobSpec, first: &FirstProcess) -> Result<OwnedFd, SetupError> {
    let ids = first.ids();
    let overlay =
        Overlay { layers: &spec.layers, scratch: &spec.scratch_dir, lowers: spec.lowers, ids };
    let path = mount_overlay(&overlay)?;
    let root = InRoot::open(&path, ids)?;
    root.plain_dir("proc")?;
    mount_sysfs(&root.plain_dir("sys")?)?;
    populate_dev(&root.plain_dir("dev")?, &spec.devices, ids)?;
    spec.mounts.iter().try_for_each(|mount| config_mount(&root, mount, ids))?;
    spec.volumes.iter().try_for_each(|volume| bind_mount(&root, volume, ids))?;
    spec.bind_files.iter().try_for_each(|file| bind_mount(&root, file, ids))?;
    detach(&path)
}

/// Read-only and of the job's network, in which the supervisor is right now.
fn mount_sysfs(place: &Path) -> Result<(), SetupError> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("sysfs", place, "sysfs", flags, None).step("mounting /sys")
}

/// A detached copy of the tree. The attached one goes with the other mounts once the program runs
/// ([`forget_mounts`]): an unmount makes the kernel wait.
fn detach(path: &Path) -> Result<OwnedFd, SetupError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).step("detaching the root")
}

/// Lets go of the mounts that came with the copy of the daemon's namespace. A supervisor lives as
/// long as its job and would keep every layer of that moment busy, whoever unmounts it.
pub(super) fn forget_mounts(job_dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    // The last mounted is on top of others.
    for point in points.collect::<Vec<_>>().into_iter().rev() {
        let needed =
            ["/proc", "/sys", "/dev"].iter().any(|kept| Path::new(point).starts_with(kept));
        if !needed && !job_dir.starts_with(point) {
            // Gone with its parent, or spelled with escapes: one mount more that stays.
            let _ = unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
}

fn init_config(spec: &JobSpec, capabilities: Capabilities, trees: &Cgroups) -> InitConfig {
    InitConfig {
        has_user_namespace: spec.user_namespace.is_some(),
        hostname: hostname(&spec.hostname).to_owned(),
        cgroups: cgroup_views(trees),
        writeable_cgroups: spec.writeable_cgroups,
        masked_paths: spec.masked_paths.clone(),
        readonly_paths: spec.readonly_paths.clone(),
        tty: spec.tty,
        open_stdin: spec.open_stdin,
        uid: spec.uid,
        gid: spec.gid,
        args: spec.args.clone(),
        env: spec.env.clone(),
        working_dir: spec.working_dir.clone(),
        rlimits: spec.rlimits,
        capabilities,
    }
}

/// At most as many bytes as the kernel takes.
fn hostname(name: &str) -> &str {
    let cut = (0..=name.len().min(64)).rev().find(|at| name.is_char_boundary(*at));
    &name[..cut.unwrap_or(0)]
}

/// v1 controllers at their own names, and the v2 tree as `unified` beside them or alone.
fn cgroup_views(trees: &Cgroups) -> Vec<CgroupMount> {
    let mut views: Vec<_> = trees
        .v1
        .iter()
        .flat_map(|hierarchy| {
            let all = hierarchy.controllers.join(",");
            hierarchy.controllers.iter().map(move |name| (name.clone(), all.clone()))
        })
        .map(|(name, controllers)| CgroupMount { name, controllers })
        .collect();
    if trees.unified.is_some() {
        let name = if views.is_empty() { String::new() } else { "unified".to_owned() };
        views.push(CgroupMount { name, controllers: String::new() });
    }
    views
}
