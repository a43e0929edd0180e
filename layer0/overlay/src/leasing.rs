//! The one loop: what is in discoverd, what is on disk and what the host was told become the same.
//!
//! It takes no input: a change of the leases only wakes it earlier.

use std::sync::Arc;
use std::time::Duration;

use discoverd_api::{
    Client, DiscoverdError, EventKind, Instance, ServiceConfig, ServiceMeta, Watch,
};
use host_api::HostClient;
use kit_http::{ClientError, ErrorCode};
use kit_tasks::Tasks;
use netplan::{Acquisition, Backend, Block, Lease, Leases, OutOfSubnets, Proposal, Retry};
use tokio::sync::watch;

use crate::config::Config;
use crate::memory::{Memory, MemoryError, Remembered};
use crate::registry::{Registry, RegistryError};
use crate::{BACKEND, SERVICE, host, uplink};

/// How often the leases are looked at when nobody says that they changed.
const RECHECK: Duration = Duration::from_secs(60);

/// What the overlay knows.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// All leases, the own one included.
    pub leases: Leases,
    /// The own subnet.
    pub subnet: Option<Block>,
    /// Why the last try to agree on a subnet failed, if it did.
    pub problem: Option<String>,
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
    told: Option<Remembered>,
    /// How many times somebody else wrote first; the draw of the next subnet follows from it.
    races: Option<Acquisition>,
}

/// One round's end.
enum Round {
    Settled(Block, Leases),
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
    #[error("the host refused its subnet")]
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
                Ok(Round::Settled(subnet, leases)) => {
                    pauses.reset();
                    self.view.send_replace(View { leases, subnet: Some(subnet), problem: None });
                    wait_for_change(&mut changes).await;
                }
                Ok(Round::LostRace(Retry::AtOnce)) => {}
                Ok(Round::LostRace(Retry::After(pause))) => tokio::time::sleep(pause).await,
                Err(error) => {
                    self.report(&error);
                    tokio::time::sleep(pauses.next_delay()).await;
                }
            }
        }
    }

    /// A host that boots alone has its network before there is a quorum.
    async fn use_remembered(&mut self) {
        let Some(lease) = self.memory.load() else { return };
        tracing::info!(subnet = %lease.subnet, "using the remembered subnet");
        match host::configure(&self.host, &self.config.job_id, lease).await {
            Ok(()) => {
                self.told = Some(lease);
                self.view.send_modify(|view| view.subnet = Some(lease.subnet));
            }
            Err(error) => tracing::warn!(%error, "the host refused the remembered subnet"),
        }
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
        registry.check_backend(BACKEND)?;
        let config = registry.config()?;
        let remembered = self.memory.load().map(|lease| lease.subnet);
        let own = self.lease();
        let acquisition = self.races.get_or_insert_with(|| {
            Acquisition::new(config, self.config.external_ip, remembered, rand::random())
        });
        let (Proposal::Keep(subnet) | Proposal::Take(subnet)) =
            acquisition.propose(&registry.leases())?;
        if registry.put(subnet, &own)? {
            let meta = ServiceMeta::replace(index, &registry)?;
            match client.set_meta(SERVICE, &meta).await {
                Ok(_) => tracing::info!(%subnet, "the lease is written"),
                Err(error) if is_lost_race(&error) => {
                    return Ok(Round::LostRace(acquisition.lost_race()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.races = None;
        self.pass_on(subnet).await?;
        Ok(Round::Settled(subnet, registry.leases()))
    }

    /// The metadata with its index; the first host writes it anew.
    async fn read(&self, client: &Client) -> Result<(u64, Registry), RoundError> {
        client.ensure_service(SERVICE, ServiceConfig::default()).await?;
        let new = || Registry::new(self.config.network, BACKEND);
        match client.meta(SERVICE).await? {
            None => Ok((0, new())),
            Some(meta) if meta.data.as_str() == "null" => Ok((meta.index, new())),
            Some(meta) => Ok((meta.index, meta.parse()?)),
        }
    }

    /// Disk first, then the host: what a job runs in is never forgotten.
    async fn pass_on(&mut self, subnet: Block) -> Result<(), RoundError> {
        let mtu = match self.config.mtu {
            Some(mtu) => mtu,
            None => uplink::mtu(self.config.external_ip).await,
        };
        let lease = Remembered { subnet, mtu };
        if self.memory.load() != Some(lease) {
            self.memory.save(lease)?;
        }
        if self.told != Some(lease) {
            let told = host::configure(&self.host, &self.config.job_id, lease).await;
            told.map_err(RoundError::Host)?;
            self.told = Some(lease);
        }
        Ok(())
    }

    fn lease(&self) -> Lease {
        let backend = Backend::Alloc;
        Lease { public_ip: self.config.external_ip, http_port: self.http_port, backend }
    }

    /// A host that has its subnet works without agreement; only one that has none is unwell.
    fn report(&self, error: &RoundError) {
        let text = chain(error);
        tracing::warn!(error = %text, "no agreement on a subnet yet");
        self.view.send_modify(|view| view.problem = Some(text));
    }
}

/// Until the leases change, or it is time to look anyway.
async fn wait_for_change(changes: &mut Watch) {
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
    let _ = tokio::time::timeout(RECHECK, changed).await;
}

fn is_lost_race(error: &DiscoverdError) -> bool {
    matches!(error.code(), Some(ErrorCode::ObjectExists | ErrorCode::PreconditionFailed))
}

/// An error with all that is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
