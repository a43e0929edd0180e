//! One member of the replicated log. The Raft library appears in this module and nowhere else: the rest
//! of discoverd proposes [`Command`]s and asks who leads.

mod command;
mod frame;
mod image;
mod log;
mod machine;
mod membership;
mod network;
mod proposals;
mod rpc;
mod store;
mod types;

use std::sync::{Arc, Weak};
use std::time::Duration;

use discoverd_registry::{Answer, Command, Refusal};
use kit_tasks::Tasks;
use openraft::error::Fatal;
use openraft::{BasicNode, ServerState};
use tokio::sync::{mpsc, oneshot};

use self::log::Log;
use self::machine::Machine;
use self::network::Network;
use self::proposals::Pending;
use self::types::{NodeId, Raft, node_id};
use crate::state::State;

pub(crate) use self::frame::MARK;
pub(crate) use self::membership::MembershipError;
pub(crate) use self::rpc::serve_peer;
pub(crate) use self::store::Store;
pub use self::store::StoreError;

/// The time constants of the log.
#[derive(Clone, Copy, Debug)]
pub struct RaftTiming {
    /// How often a leader shows that it is there.
    pub heartbeat: Duration,
    /// The shortest silence after which a member stands for election; the longest is twice that.
    pub election: Duration,
    /// How long a write may wait for its quorum.
    pub write: Duration,
    /// A snapshot is taken after so many entries.
    pub snapshot_after: u64,
}

impl Default for RaftTiming {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(300),
            election: Duration::from_secs(1),
            write: Duration::from_secs(30),
            snapshot_after: 5_000,
        }
    }
}

/// How long the library may take to let go of the disk, and how often that is looked at.
const RELEASE: Duration = Duration::from_secs(5);
const RELEASE_POLL: Duration = Duration::from_millis(2);

/// Who leads, as far as this member knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leadership {
    /// This member.
    Me,
    /// The member at this address.
    Other(String),
    /// Nobody known.
    Unknown,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProposeError {
    /// The registry said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another member leads, or nobody.
    #[error("this server does not lead")]
    NotLeader(Leadership),
    /// It may or may not have been done: no quorum in time, or the disk failed.
    #[error("the write was not confirmed")]
    Unconfirmed,
}

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// The disk.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// The library refuses what it found or was told.
    #[error("the log cannot be started")]
    Library(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl RaftError {
    fn library(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Library(Box::new(error))
    }
}

/// A running member.
#[derive(Clone)]
pub(crate) struct Node {
    raft: Raft,
    id: NodeId,
    addr: String,
    proposals: mpsc::Sender<Pending>,
    store: Weak<redb::Database>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Starts the member at `addr`. `peers` are the first voters, itself among them; once there is a
    /// log, the voters are those of the log.
    pub(crate) async fn start(
        tasks: &Tasks,
        store: Store,
        state: Arc<State>,
        addr: &str,
        peers: &[String],
        timing: RaftTiming,
    ) -> Result<Self, RaftError> {
        let id = store.node_id(node_id(addr))?;
        let (machine, disk) = (Machine::open(store.clone(), state)?, store.observe());
        let config = Arc::new(library_config(timing).validate().map_err(RaftError::library)?);
        let raft = Raft::new(id, config, Network, Log::new(store), machine).await;
        let raft = raft.map_err(RaftError::library)?;
        let proposals = proposals::start(tasks, raft.clone(), timing.write);
        let node = Self { raft, id, addr: addr.to_owned(), proposals, store: disk };
        node.initialize(peers).await?;
        node.spawn_keeper(tasks);
        Ok(node)
    }

    /// Writes the first voters where there is no log yet.
    async fn initialize(&self, peers: &[String]) -> Result<(), RaftError> {
        if self.raft.is_initialized().await.map_err(RaftError::library)? {
            return Ok(());
        }
        let id = |peer: &str| if peer == self.addr { self.id } else { node_id(peer) };
        let voters = peers.iter().map(|peer| (id(peer), BasicNode::new(peer)));
        let voters: std::collections::BTreeMap<_, _> = voters.collect();
        self.raft.initialize(voters).await.map_err(RaftError::library)
    }

    /// Puts a command to the log and waits until it was applied here.
    pub(crate) async fn propose(&self, command: Command) -> Result<Answer, ProposeError> {
        let (done, answer) = oneshot::channel();
        let pending = Pending { command: command.into(), done };
        if self.proposals.send(pending).await.is_err() {
            return Err(ProposeError::Unconfirmed);
        }
        answer.await.unwrap_or(Err(ProposeError::Unconfirmed))
    }

    /// Who leads.
    pub(crate) fn leadership(&self) -> Leadership {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        match metrics.current_leader {
            Some(leader) if leader == self.id && metrics.state == ServerState::Leader => {
                Leadership::Me
            }
            Some(leader) if leader != self.id => {
                let node = metrics.membership_config.membership().get_node(&leader);
                node.map_or(Leadership::Unknown, |node| Leadership::Other(node.addr.clone()))
            }
            Some(_) | None => Leadership::Unknown,
        }
    }

    /// How long ago a quorum last agreed that this member leads. None while it does not lead; zero for
    /// a lone voter, who is its own quorum.
    pub(crate) fn since_quorum(&self) -> Option<Duration> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        if metrics.state != ServerState::Leader {
            return None;
        }
        if metrics.membership_config.membership().voter_ids().count() <= 1 {
            return Some(Duration::ZERO);
        }
        Some(metrics.millis_since_quorum_ack.map_or(Duration::MAX, Duration::from_millis))
    }

    /// The address under which others find this member.
    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    /// Waits until somebody is known to lead.
    pub(crate) async fn leader_known(&self) {
        self.until(|node| node.leadership() != Leadership::Unknown).await;
    }

    /// Waits until the log has ended because its disk failed, and says how. Never returns when it ends
    /// because it was told to.
    pub(crate) async fn failed(&self) -> String {
        let failure = |node: &Self| match &node.raft.metrics().borrow().running_state {
            Ok(()) | Err(Fatal::Stopped) => None,
            Err(failure @ (Fatal::StorageError(_) | Fatal::Panicked)) => Some(failure.to_string()),
        };
        self.until(|node| failure(node).is_some()).await;
        failure(self).unwrap_or_default()
    }

    /// Waits until what `holds` says is so. Never returns once the member stopped.
    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.raft.metrics();
        loop {
            changes.borrow_and_update();
            if holds(self) {
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends the member; what it was asked meanwhile is answered as unconfirmed.
    pub(crate) async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the log did not stop cleanly");
        }
        // The library's other tasks let go of the disk a moment later.
        let released = async {
            while self.store.strong_count() > 0 {
                tokio::time::sleep(RELEASE_POLL).await;
            }
        };
        if tokio::time::timeout(RELEASE, released).await.is_err() {
            tracing::warn!("the store is still in use");
        }
    }
}

fn library_config(timing: RaftTiming) -> openraft::Config {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "discoverd".to_owned(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election),
        election_timeout_max: millis(timing.election * 2),
        // A chunk must fit a frame in its text form, where a byte takes up to four characters.
        snapshot_max_chunk_size: 1 << 20,
        install_snapshot_timeout: 10_000,
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(timing.snapshot_after),
        max_in_snapshot_log_to_keep: timing.snapshot_after / 2,
        ..openraft::Config::default()
    }
}
