//! The one loop: what is in discoverd, what is on disk, what the kernel has and what the host was told
//! become the same.
//!
//! It takes no input: a change of the leases only wakes it earlier. While there is no agreement it goes
//! on with what is remembered.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use discoverd_api::{
    Client, DiscoverdError, EventKind, Instance, ServiceConfig, ServiceMeta, Watch,
};
use host_api::{HostClient, NetworkConfig};
use kit_clock::Wall;
use kit_http::{ClientError, ErrorCode};
use kit_tasks::Tasks;
use netplan::{
    Acquisition, Backend, BackendKind, Block, Lease, Leases, OutOfSubnets, Proposal, Retry,
};
use tokio::sync::watch;

use crate::config::Config;
use crate::memory::{Memory, MemoryError, Remembered};
use crate::netlink::KernelError;
use crate::plane::{self, Plane};
use crate::registry::{Registry, RegistryError};
use crate::{SERVICE, entries, host, uplink};

/// What the overlay knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// All leases, the own one included.
    pub leases: Leases,
    /// The own subnet.
    pub subnet: Option<Block>,
    /// The tunnel device's address, if there is one.
    pub inside: Option<Ipv4Addr>,
    /// Why the last try to agree on a subnet failed, if it did.
    pub problem: Option<String>,
    /// What keeps jobs of this host and of others apart, if something does.
    pub fault: Option<String>,
}

/// The loop's state.
pub(crate) struct Leasing {
    config: Arc<Config>,
    http_port: u16,
    memory: Memory,
    host: HostClient,
    view: watch::Sender<View>,
    tasks: Tasks,
    /// What the host was told last.
    told: Option<NetworkConfig>,
    /// How many times somebody else wrote first; the draw of the next subnet follows from it.
    races: Option<Acquisition>,
}

/// One round's end.
enum Round {
    Settled,
    LostRace(Retry),
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Discoverd(#[from] DiscoverdError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Full(#[from] OutOfSubnets),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("the host refused its subnet")]
    Refused(#[source] ClientError),
    #[error("the host was not told its network")]
    Host(#[source] ClientError),
}

impl From<serde_json::Error> for RoundError {
    fn from(error: serde_json::Error) -> Self {
        Self::Registry(error.into())
    }
}

impl Leasing {
    pub(crate) fn new(
        config: Arc<Config>,
        http_port: u16,
        memory: Memory,
        host: HostClient,
        view: watch::Sender<View>,
        tasks: Tasks,
    ) -> Self {
        Self { config, http_port, memory, host, view, tasks, told: None, races: None }
    }

    /// Runs until the task is stopped.
    pub(crate) async fn run(mut self) {
        self.use_remembered().await;
        let client = self.discoverd().await;
        let addr = format!("{}:{}", self.config.external_ip, self.http_port);
        let own = Instance::new("tcp", &addr);
        let _heartbeat = client.announce(&self.tasks, SERVICE, ServiceConfig::default(), own);
        let mut changes = client.watch(SERVICE);
        let mut pauses = host::pauses();
        loop {
            match self.round(&client).await {
                Ok(Round::Settled) => {
                    pauses.reset();
                    self.view.send_modify(|view| view.problem = None);
                    wait_for_change(&mut changes, self.config.recheck).await;
                }
                Ok(Round::LostRace(Retry::AtOnce)) => {}
                Ok(Round::LostRace(Retry::After(pause))) => tokio::time::sleep(pause).await,
                Err(error) => {
                    self.report(&error);
                    self.hold_out(&error).await;
                    tokio::time::sleep(pauses.next_delay()).await;
                }
            }
        }
    }

    /// A host that boots alone has its network, and the way to its peers, before there is a quorum.
    async fn use_remembered(&mut self) {
        let Some(remembered) = self.memory.load() else { return };
        tracing::info!(subnet = %remembered.subnet, "using the remembered subnet");
        let Some(network) = self.connect(&remembered).await else { return };
        match host::configure_patiently(&self.host, &network).await {
            Ok(()) => self.told = Some(network),
            Err(error) => tracing::warn!(%error, "the host refused the remembered subnet"),
        }
    }

    /// Keeps the kernel as it was agreed on last while there is no new agreement.
    async fn hold_out(&mut self, error: &RoundError) {
        let of_ours = matches!(error, RoundError::Discoverd(_));
        if let Some(remembered) = self.memory.load().filter(|_| of_ours) {
            self.connect(&remembered).await;
        }
    }

    /// Makes the way to the others as remembered; gives what the host is to be told of it.
    async fn connect(&self, remembered: &Remembered) -> Option<NetworkConfig> {
        let Remembered { subnet, mtu, registry } = remembered;
        let Some(registry) = registry else {
            self.view.send_modify(|view| view.subnet = Some(*subnet));
            return Some(self.network(*subnet, *mtu, None));
        };
        let plane = Plane::of(registry, self.config.external_ip, *subnet, *mtu);
        let plane =
            plane.inspect_err(|error| tracing::warn!(%error, "the remembered leases")).ok()?;
        if let Err(error) = self.make_way(&plane, *subnet, registry).await {
            tracing::warn!(error = %chain(&error), "the way to the other hosts is not as it was");
        }
        Some(self.network(*subnet, *mtu, Some(&plane)))
    }

    async fn discoverd(&self) -> Client {
        let mut pauses = host::pauses();
        loop {
            match Client::new(&host::discoverd(&self.host).await) {
                Ok(client) => return client,
                Err(error) => tracing::warn!(%error, "the host names no usable discoverd"),
            }
            tokio::time::sleep(pauses.next_delay()).await;
        }
    }

    /// Reads the leases, takes or confirms one, and passes it on.
    async fn round(&mut self, client: &Client) -> Result<Round, RoundError> {
        let (index, mut registry) = self.read(client).await?;
        let leases = registry.leases();
        let proposal = self.propose(client, &registry, &leases).await?;
        let (Proposal::Keep(subnet) | Proposal::Take(subnet)) = proposal;
        let others = leases.values().any(|lease| lease.public_ip != self.config.external_ip);
        let agreed = registry.backend()?;
        let kind = plane::backend(agreed, self.config.backend, 1 + usize::from(others));
        if kind != agreed {
            tracing::info!(
                from = agreed.as_str(),
                to = kind.as_str(),
                "the cluster's backend changes"
            );
            registry.set_backend(kind);
        }
        let known = leases.get(&subnet).filter(|_| proposal == Proposal::Keep(subnet));
        let is_new = registry.put(subnet, &self.lease(kind, known))?;
        if is_new || kind != agreed {
            let meta = ServiceMeta::replace(index, &registry)?;
            match client.set_meta(SERVICE, &meta).await {
                Ok(_) => tracing::info!(%subnet, "the lease is written"),
                Err(error) if is_lost_race(&error) => return Ok(Round::LostRace(self.lost_race())),
                Err(error) => return Err(error.into()),
            }
        }
        self.races = None;
        self.pass_on(subnet, kind, registry).await?;
        Ok(Round::Settled)
    }

    /// The subnet to keep or take; a silent host's, when there is no other.
    async fn propose(
        &mut self,
        client: &Client,
        registry: &Registry,
        leases: &Leases,
    ) -> Result<Proposal, RoundError> {
        let config = registry.config()?;
        let (own_ip, memory) = (self.config.external_ip, &self.memory);
        let acquisition = self.races.get_or_insert_with(|| {
            let remembered = memory.load().map(|lease| lease.subnet);
            Acquisition::new(config, own_ip, remembered, rand::random())
        });
        let full = match acquisition.propose(leases) {
            Ok(proposal) => return Ok(proposal),
            Err(full) => full,
        };
        let alive: BTreeSet<Ipv4Addr> =
            client.instances(SERVICE).await?.iter().filter_map(|i| ip_of(&i.addr)).collect();
        let silent = acquisition.reclaim(leases, &alive, now()).ok_or(full)?;
        tracing::warn!(?silent, "no subnet is free: taking that of a host silent for over a week");
        Ok(silent)
    }

    fn lost_race(&mut self) -> Retry {
        self.races.as_mut().map_or(Retry::AtOnce, Acquisition::lost_race)
    }

    /// The metadata with its index; the first host writes it anew.
    async fn read(&self, client: &Client) -> Result<(u64, Registry), RoundError> {
        client.ensure_service(SERVICE, ServiceConfig::default()).await?;
        let backend = self.config.backend.unwrap_or(BackendKind::Alloc);
        let new = || Registry::new(self.config.network, backend);
        match client.meta(SERVICE).await? {
            None => Ok((0, new())),
            Some(meta) if meta.data.as_str() == "null" => Ok((meta.index, new())),
            Some(meta) => Ok((meta.index, meta.parse()?)),
        }
    }

    /// Disk first, then the kernel, then the host: what a job runs in is never forgotten.
    async fn pass_on(
        &mut self,
        subnet: Block,
        kind: BackendKind,
        registry: Registry,
    ) -> Result<(), RoundError> {
        let mtu = match self.config.mtu {
            Some(mtu) => mtu,
            None => {
                let uplink = uplink::mtu(self.config.external_ip).await;
                plane::mtu(uplink, kind, self.config.backend)
            }
        };
        let plane = Plane::of(&registry, self.config.external_ip, subnet, mtu)?;
        let lease = Remembered { subnet, mtu, registry: Some(registry.clone()) };
        if self.memory.load().as_ref() != Some(&lease) {
            self.memory.save(&lease)?;
        }
        let way = self.make_way(&plane, subnet, &registry).await;
        let network = self.network(subnet, mtu, Some(&plane));
        if self.told.as_ref() != Some(&network) {
            let told = host::configure(&self.host, &network).await;
            told.map_err(|error| match host::is_refusal(&error) {
                true => RoundError::Refused(error),
                false => RoundError::Host(error),
            })?;
            self.told = Some(network);
        }
        way
    }

    /// Makes the kernel have what it should, and says so.
    async fn make_way(
        &self,
        plane: &Plane,
        subnet: Block,
        registry: &Registry,
    ) -> Result<(), RoundError> {
        let applied = entries::apply(&plane.target).await;
        let fault = match &applied {
            Ok(refused) => plane::off_link(refused),
            Err(error) => Some(chain(error)),
        };
        let was = self.view.borrow().fault.clone();
        if let Some(fault) = fault.as_ref().filter(|fault| was.as_ref() != Some(*fault)) {
            tracing::error!(%fault, "jobs of other hosts are not all reached");
        }
        let (leases, inside) = (registry.leases(), plane.inside().filter(|_| applied.is_ok()));
        self.view.send_modify(|view| {
            *view =
                View { leases, subnet: Some(subnet), inside, fault, problem: view.problem.take() };
        });
        Ok(applied.map(drop)?)
    }

    fn network(&self, subnet: Block, mtu: u32, plane: Option<&Plane>) -> NetworkConfig {
        let overlay = plane.map(|plane| plane.overlay.clone());
        host::network_config(&self.config.job_id, subnet, mtu, overlay)
    }

    /// What this host writes of itself; when it was seen only as often as it has to.
    fn lease(&self, kind: BackendKind, known: Option<&Lease>) -> Lease {
        let public_ip = self.config.external_ip;
        let now = now();
        let seen = known.filter(|lease| !lease.is_due(now)).and_then(|lease| lease.seen);
        let backend = Backend::of(kind, public_ip);
        Lease { public_ip, http_port: self.http_port, backend, seen: seen.or(Some(now)) }
    }

    /// A host that has its subnet works without agreement; only one that has none is unwell, or one
    /// whose daemon does not take the subnet that it should have.
    fn report(&self, error: &RoundError) {
        let text = chain(error);
        tracing::warn!(error = %text, "no agreement on a subnet yet");
        self.view.send_modify(|view| {
            if matches!(error, RoundError::Refused(_)) {
                view.fault = Some(text.clone());
            }
            view.problem = Some(text);
        });
    }
}

/// Until the leases change, or it is time to look anyway.
async fn wait_for_change(changes: &mut Watch, at_most: Duration) {
    let changed = async {
        loop {
            match changes.next().await.kind {
                EventKind::ServiceMeta | EventKind::Current => return,
                EventKind::Up
                | EventKind::Update
                | EventKind::Down
                | EventKind::Leader
                | EventKind::Unknown => {}
            }
        }
    };
    // Both ends mean the same: look again.
    let _ = tokio::time::timeout(at_most, changed).await;
}

fn ip_of(addr: &str) -> Option<Ipv4Addr> {
    addr.split(':').next()?.parse().ok()
}

/// To the second, as it is written.
fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall::from_epoch(Duration::from_secs(since.as_secs()))
}

fn is_lost_race(error: &DiscoverdError) -> bool {
    matches!(error.code(), Some(ErrorCode::ObjectExists | ErrorCode::PreconditionFailed))
}

/// An error with all that is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
