//! The host's network as one object: what is on disk, what the kernel has, and the order in which the
//! one follows the other.
//!
//! Every change is written down before it is made, so that after a crash [`Network::restore`] can
//! finish or undo it. One change happens at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{MutexGuard, PoisonError};

use kit_clock::{Clock as _, Mono, SystemClock};
use kit_ids::JobId;
use tokio::sync::Mutex;

use crate::addresses::{Lease, NoAddress};
use crate::config::Config;
use crate::durable::{Durable, Store};
use crate::fastpath::FastPath;
use crate::job::{Endpoint, JobNetwork, JobRequest};
use crate::link::{self, LinkError};
use crate::nft::{Nft, NftError};
use crate::overlay::Overlay;
use crate::subnet::Subnet;
use crate::{forwarding, namespace, ruleset};

/// One host's network. All methods may be called at the same time; they take turns.
#[derive(Debug)]
pub struct Network {
    config: Config,
    clock: SystemClock,
    store: Store,
    nft: Nft,
    fast_path: FastPath,
    state: Mutex<Durable>,
    /// Addresses whose rules are being loaded; they stay here when the caller goes meanwhile, for then
    /// nobody knows what was loaded.
    loading: std::sync::Mutex<BTreeSet<Ipv4Addr>>,
    /// Whether the kernel may lack rules that the state asks for: a caller went, or something failed, in
    /// between. Who comes next sees to it, also if there is nothing new.
    behind: AtomicBool,
}

/// What [`Network::restore`] found.
#[derive(Debug, Default)]
pub struct Restored {
    /// Jobs whose network is as they left it.
    pub kept: BTreeMap<JobId, JobNetwork>,
    /// Jobs that should run but have no network any more: nobody can reach them, stop them.
    pub lost: Vec<JobId>,
    /// How many networks of jobs that are no more were removed.
    pub removed: usize,
}

/// Why the network is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No subnet yet: the overlay has not called.
    #[error("the host has no subnet yet")]
    NotConfigured,
    /// A second, different subnet while jobs have addresses of the first.
    #[error("the subnet cannot change from {from} to {to} while {jobs} jobs have addresses in it")]
    SubnetInUse {
        /// The one in use.
        from: Subnet,
        /// The one asked for.
        to: Subnet,
        /// How many jobs.
        jobs: usize,
    },
    /// No address for the job.
    #[error(transparent)]
    NoAddress(#[from] NoAddress),
    /// The firewall was not changed.
    #[error(transparent)]
    Firewall(#[from] NftError),
    /// A link, address or route was not changed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A file, a namespace or a kernel setting could not be read or written.
    #[error("cannot {action}")]
    Io {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Network {
    /// Reads what an earlier daemon left and puts the firewall in place: from here on the guarded
    /// ports are guarded. Jobs that an earlier daemon attached keep their networks meanwhile.
    pub async fn open(config: Config) -> Result<Self, NetworkError> {
        let store = Store::open(&config.data_dir).map_err(io_error("make the state directory"))?;
        let mut state = store.load().map_err(io_error("read network.json"))?;
        let clock = SystemClock::start();
        forget_what_is_gone(&config, &mut state, clock.mono()).await?;
        let nft = Nft::new(config.nft.clone());
        let (state, loading) = (Mutex::new(state), Default::default());
        let behind = AtomicBool::new(false);
        let fast_path = FastPath::open(&config);
        let network = Self { config, clock, store, nft, fast_path, state, loading, behind };
        let state = network.state.lock().await;
        network.save(&state).await?;
        network.load_all_rules(&state).await?;
        let leases: Vec<_> = state.addresses.leases().values().cloned().collect();
        network.fast_path.take_over(&leases, state.overlay.as_ref(), state.subnet).await;
        drop(state);
        Ok(network)
    }

    /// Gives the host its subnet: bridge, address, forwarding, rules. Doing it again changes nothing
    /// but what is not as it should be.
    pub async fn configure(&self, subnet: Subnet, mtu: u32) -> Result<(), NetworkError> {
        let mut state = self.state.lock().await;
        let jobs = state.addresses.leases().len();
        if let Some(from) = state.subnet.filter(|from| *from != subnet && jobs > 0) {
            return Err(NetworkError::SubnetInUse { from, to: subnet, jobs });
        }
        if state.forwarding_was_on.is_none() {
            let before = forwarding::is_on().map_err(io_error("read ip_forward"))?;
            state.forwarding_was_on = Some(before);
        }
        (state.subnet, state.mtu) = (Some(subnet), mtu);
        self.save(&state).await?;
        // The rules come first: there is no moment in which a job is reached unfiltered.
        self.load_all_rules(&state).await?;
        link::with_netlink(async |handle| {
            link::ensure_bridge(&handle, &self.config, subnet, mtu).await
        })
        .await?;
        forwarding::set(true).map_err(io_error("turn on ip_forward"))?;
        forwarding::set_up_bridge(&self.config.bridge).map_err(io_error("set up the bridge"))?;
        self.fast_path.follow(state.overlay.as_ref(), state.subnet).await;
        Ok(())
    }

    /// The subnet, if the host has one.
    pub async fn subnet(&self) -> Option<Subnet> {
        self.state.lock().await.subnet
    }

    /// Says which hosts are registered. The host itself is always known, and so are those with a subnet:
    /// a host that lost its registration must still be able to come back.
    pub async fn set_known_hosts(
        &self,
        hosts: impl IntoIterator<Item = Ipv4Addr>,
    ) -> Result<(), NetworkError> {
        let mut state = self.state.lock().await;
        let hosts: BTreeSet<_> = hosts.into_iter().collect();
        if state.known_hosts.iter().copied().eq(hosts.iter().copied()) && !self.is_behind() {
            return Ok(());
        }
        state.known_hosts = hosts.into_iter().collect();
        let rules = ruleset::known_hosts(&self.config, &self.known_hosts(&state));
        self.follow(&state, Some(&rules)).await
    }

    /// Says how other hosts' jobs are reached, and by which hosts. The rules are replaced in one step; open
    /// connections stay.
    pub async fn set_overlay(&self, overlay: Overlay) -> Result<(), NetworkError> {
        let mut state = self.state.lock().await;
        if state.overlay.as_ref() == Some(&overlay) && !self.is_behind() {
            return Ok(());
        }
        state.overlay = Some(overlay);
        self.follow(&state, None).await?;
        self.fast_path.follow(state.overlay.as_ref(), state.subnet).await;
        Ok(())
    }

    /// Finds the device that leads to other hosts, which somebody else makes, after this host was told of it
    /// or anew. Until then packets to other hosts' jobs go the long way. To be called now and then.
    pub async fn follow_tunnel(&self) {
        let state = self.state.lock().await;
        self.fast_path.follow(state.overlay.as_ref(), state.subnet).await;
    }

    /// Gives a job an address and a namespace. A job that has one already gets the same again. After
    /// an error nothing is left of it.
    pub async fn attach_job(&self, request: JobRequest) -> Result<JobNetwork, NetworkError> {
        let mut state = self.state.lock().await;
        let subnet = state.subnet.ok_or(NetworkError::NotConfigured)?;
        let had = state.addresses.leases().contains_key(&request.job);
        let lease =
            state.addresses.lease(&request, subnet, self.config.quarantine, self.clock.mono())?;
        let network = self.describe(&lease, subnet, state.mtu, &request.job);
        if had && self.is_whole(&network).await? {
            return Ok(network);
        }
        self.save(&state).await?;
        // Of an address that was given out right now there are no rules: what took the last ones out
        // has ended.
        let rules = if had || self.loading().contains(&lease.ip) {
            ruleset::replace(&self.config, &lease)
        } else {
            ruleset::attach(&self.config, &lease)
        };
        if let Err(error) = self.build(&lease, subnet, &network, &rules).await {
            if let Err(error) = self.demolish(&mut state, &request.job).await {
                tracing::warn!(job = %request.job, %error, "a half made network is left for later");
            }
            return Err(error);
        }
        Ok(network)
    }

    /// Replaces what a job may reach beyond its partition, as services move. Connections that are
    /// open stay. A job without a network is success.
    pub async fn set_allowed(
        &self,
        job: &JobId,
        allow: BTreeSet<Endpoint>,
    ) -> Result<(), NetworkError> {
        let mut state = self.state.lock().await;
        let changed = state.addresses.allow(job, allow.into_iter().collect());
        let changed = changed.filter(|(before, after)| before != after || self.is_behind());
        let Some((before, after)) = changed else { return Ok(()) };
        let rules = ruleset::allow(&self.config, &before, &after);
        self.follow(&state, Some(&rules)).await
    }

    /// Prepares what the next job will need and no job has.
    pub async fn make_ready(&self) -> Result<(), NetworkError> {
        Ok(self.nft.make_ready().await?)
    }

    /// Takes a job's network away; its address rests. A job without one is success.
    pub async fn detach_job(&self, job: &JobId) -> Result<(), NetworkError> {
        let mut state = self.state.lock().await;
        self.demolish(&mut state, job).await
    }

    /// After a start of the daemon: keeps the networks of the jobs that still run, removes all
    /// others and whatever a crash left half made.
    pub async fn restore(&self, running: &BTreeSet<JobId>) -> Result<Restored, NetworkError> {
        let mut state = self.state.lock().await;
        let mut restored = Restored::default();
        let leases: Vec<_> = state.addresses.leases().keys().cloned().collect();
        for job in leases.into_iter().filter(|job| !running.contains(job)) {
            self.demolish(&mut state, &job).await?;
            restored.removed += 1;
        }
        for (job, lease) in state.addresses.leases().clone() {
            let Some(subnet) = state.subnet else { break };
            let network = self.describe(&lease, subnet, state.mtu, &job);
            if self.is_whole(&network).await? {
                restored.kept.insert(job, network);
            } else {
                self.demolish(&mut state, &job).await?;
            }
        }
        restored.removed += self.sweep(&state).await?;
        let lost = running.iter().filter(|job| !restored.kept.contains_key(*job));
        restored.lost = lost.cloned().collect();
        Ok(restored)
    }

    /// Removes everything this host has made in the kernel, and sets `ip_forward` back.
    pub async fn teardown(self) -> Result<(), NetworkError> {
        self.restore(&BTreeSet::new()).await?;
        let mut state = self.state.lock().await;
        let bridge = self.config.bridge.as_str();
        let tunnel = state.overlay.as_ref().and_then(Overlay::device);
        link::with_netlink(async |handle| {
            if let Some(tunnel) = &tunnel {
                link::delete_tunnel(&handle, tunnel).await?;
            }
            link::delete(&handle, bridge).await
        })
        .await?;
        if state.forwarding_was_on == Some(false) {
            forwarding::set(false).map_err(io_error("set ip_forward back"))?;
        }
        self.nft.load(&ruleset::remove(&self.config)).await?;
        *state = Durable::default();
        self.store.remove().map_err(io_error("remove network.json"))
    }

    /// Namespace, pair, rules, then up: the job's link passes its first packet when its rules stand. What
    /// is set up inside meanwhile speaks to nobody, for the host's end is down.
    async fn build(
        &self,
        lease: &Lease,
        subnet: Subnet,
        network: &JobNetwork,
        rules: &str,
    ) -> Result<(), NetworkError> {
        let ip = lease.ip;
        let netns = namespace::create(network.netns.clone())
            .await
            .map_err(io_error("make a network namespace"))?;
        link::with_netlink(async |handle| {
            link::delete(&handle, &network.veth).await?;
            link::add_pair(&handle, &self.config, ip, network.mtu, netns.as_raw_fd()).await
        })
        .await?;
        let inside = namespace::run_inside(netns, move || async move {
            let links =
                link::with_netlink(async |handle| link::set_up_job(&handle, ip, subnet).await);
            links.await?;
            forwarding::set_up_job().map_err(io_error("set up the job's namespace"))
        });
        let load = async {
            self.loading().insert(ip);
            let loaded = self.nft.load(rules).await;
            self.loading().remove(&ip);
            loaded
        };
        // Both to their end: a failure undoes what they made.
        let (loaded, inside) = tokio::join!(load, inside);
        loaded?;
        inside.map_err(io_error("enter the job's namespace"))??;
        self.fast_path.add(std::slice::from_ref(lease)).await;
        let veth = network.veth.as_str();
        Ok(link::with_netlink(async |handle| link::bring_up(&handle, veth).await).await?)
    }

    /// The reverse of [`build`](Self::build), for any state a job's network may be in.
    async fn demolish(&self, state: &mut Durable, job: &JobId) -> Result<(), NetworkError> {
        let Some(lease) = state.addresses.leases().get(job).cloned() else { return Ok(()) };
        let veth = link::veth_name(&self.config.veth_prefix, lease.ip);
        self.fast_path.remove(lease.ip);
        link::with_netlink(async |handle| link::delete(&handle, &veth).await).await?;
        self.nft.load(&ruleset::detach(&self.config, &lease)).await?;
        unpin(self.pin(job)).await?;
        state.addresses.release(job, self.clock.mono());
        self.save(state).await
    }

    /// Removes links and pins of our names that belong to no job.
    async fn sweep(&self, state: &Durable) -> Result<usize, NetworkError> {
        let leases = state.addresses.leases();
        let prefix = &self.config.veth_prefix;
        let wanted: BTreeSet<_> = leases.values().map(|l| link::veth_name(prefix, l.ip)).collect();
        let strays = link::with_netlink(async |handle| {
            let mut strays = link::job_links(&handle, prefix).await?;
            strays.retain(|name| !wanted.contains(name));
            for name in &strays {
                link::delete(&handle, name).await?;
            }
            Ok(strays.len())
        })
        .await?;
        let pins: BTreeSet<_> = leases.keys().map(|job| self.pin(job)).collect();
        let mut removed = strays;
        for pin in self.pins()?.into_iter().filter(|pin| !pins.contains(pin)) {
            unpin(pin).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// All files that may be pinned namespaces.
    fn pins(&self) -> Result<Vec<PathBuf>, NetworkError> {
        let list = match std::fs::read_dir(self.config.data_dir.join("netns")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error("list pinned namespaces"))?,
        };
        let paths: io::Result<_> = list.map(|entry| entry.map(|entry| entry.path())).collect();
        paths.map_err(io_error("list pinned namespaces"))
    }

    fn pin(&self, job: &JobId) -> PathBuf {
        self.config.data_dir.join("netns").join(job.as_str())
    }

    /// Whether pin and link are both there.
    async fn is_whole(&self, network: &JobNetwork) -> Result<bool, NetworkError> {
        let veth = network.veth.as_str();
        let linked = link::with_netlink(async |handle| link::exists(&handle, veth).await).await?;
        Ok(linked && is_namespace(&network.netns))
    }

    fn describe(&self, lease: &Lease, subnet: Subnet, mtu: u32, job: &JobId) -> JobNetwork {
        JobNetwork {
            netns: self.pin(job),
            ip: lease.ip,
            prefix_len: subnet.prefix_len(),
            gateway: subnet.bridge_ip(),
            mac: link::job_mac(lease.ip),
            veth: link::veth_name(&self.config.veth_prefix, lease.ip),
            mtu,
        }
    }

    fn loading(&self) -> MutexGuard<'_, BTreeSet<Ipv4Addr>> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_hosts(&self, state: &Durable) -> BTreeSet<Ipv4Addr> {
        let registered = state.known_hosts.iter().copied();
        let with_subnet = state.overlay.iter().flat_map(|overlay| overlay.hosts.iter().copied());
        registered.chain(with_subnet).chain([self.config.external_ip]).collect()
    }

    fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Keeps a changed state and has the kernel follow: by these rules, or by all where there are none or an
    /// earlier change was left halfway.
    async fn follow(&self, state: &Durable, rules: Option<&str>) -> Result<(), NetworkError> {
        let was_behind = self.behind.swap(true, Ordering::Relaxed);
        self.save(state).await?;
        match rules.filter(|_| !was_behind) {
            Some(rules) => self.nft.load(rules).await?,
            None => self.load_all_rules(state).await?,
        }
        self.behind.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn load_all_rules(&self, state: &Durable) -> Result<(), NetworkError> {
        let hosts = self.known_hosts(state);
        let leases = state.addresses.leases();
        let overlay = state.overlay.as_ref();
        let rules = ruleset::whole(&self.config, state.subnet, overlay, &hosts, leases);
        Ok(self.nft.load(&rules).await?)
    }

    /// Writes the state down, off the runtime's workers: syncing a busy disk takes its time.
    async fn save(&self, state: &Durable) -> Result<(), NetworkError> {
        let (store, state) = (self.store.clone(), state.clone());
        off_the_runtime("write network.json", move || store.save(&state)).await
    }
}

/// After a reboot, or a move to another namespace, there is less than the file says.
async fn forget_what_is_gone(
    config: &Config,
    state: &mut Durable,
    now: Mono,
) -> Result<(), NetworkError> {
    let (bridge, links) = link::with_netlink(async |handle| {
        let bridge = link::exists(&handle, config.bridge.as_str()).await?;
        Ok((bridge, link::job_links(&handle, &config.veth_prefix).await?))
    })
    .await?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot = boot.map_err(io_error("read the boot id"))?.trim().to_owned();
    if state.boot != boot {
        (state.boot, state.forwarding_was_on) = (boot, None);
    }
    if !bridge {
        state.subnet = None;
    }
    let gone = |lease: &Lease| !links.contains(&link::veth_name(&config.veth_prefix, lease.ip));
    let leases = state.addresses.leases().iter().filter(|(_, lease)| !bridge || gone(lease));
    for job in leases.map(|(job, _)| job.clone()).collect::<Vec<_>>() {
        state.addresses.release(&job, now);
    }
    Ok(())
}

/// Whether a file is a mounted namespace and not just the place for one.
fn is_namespace(pin: &Path) -> bool {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    rustix::fs::statfs(pin).is_ok_and(|found| found.f_type == NSFS_MAGIC)
}

/// Removing a namespace may wait for the kernel.
async fn unpin(pin: PathBuf) -> Result<(), NetworkError> {
    off_the_runtime("remove a pinned namespace", move || namespace::remove(&pin)).await
}

async fn off_the_runtime(
    action: &'static str,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), NetworkError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other).flatten().map_err(io_error(action))
}

fn io_error(action: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Io { action, source }
}
