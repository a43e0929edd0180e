//! One member of the replicated log. The Raft library appears in this module and nowhere else: the rest
//! of discoverd proposes [`Command`]s and asks who leads.

mod ahead;
mod command;
mod contact;
mod dial;
mod election;
mod frame;
mod image;
mod joining;
mod journal;
mod log;
mod machine;
mod membership;
mod network;
mod proposals;
pub(crate) mod rebuild;
mod roster;
mod rpc;
mod store;
mod types;

#[cfg(test)]
#[path = "../../tests/it/fragile.rs"]
mod fragile;
#[cfg(test)]
mod gated;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use discoverd_registry::{Answer, Command, Refusal};
use kit_tasks::Tasks;
use openraft::ServerState;
use openraft::error::Fatal;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, oneshot};

use self::ahead::Majority;
use self::contact::Contact;
use self::log::Log;
use self::machine::Machine;
use self::network::Network;
use self::proposals::Pending;
use self::store::Observer;
use self::types::{NodeId, Raft};
use crate::state::State;

pub use self::dial::{Dial, Direct};
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
    /// The shortest silence after which a member stands for election; the longest is twice that. A
    /// leader that lost touch for three times that is taken as lost.
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

/// A leader that was not heard for so many election time-outs is taken as lost; until then requests may
/// still be sent to it.
const LOST_AFTER: u32 = 3;
/// How often what depends on time alone is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long the library may take to let go of the disk, and how often that is looked at.
const RELEASE: Duration = Duration::from_secs(5);
const RELEASE_POLL: Duration = Duration::from_millis(2);

/// Who leads, as far as this member knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Leadership {
    /// This member.
    Me,
    /// The member at this address.
    Other(String),
    /// Nobody known.
    Unknown,
}

/// How old what a member knows may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// It leads.
    Present,
    /// It heard a leader that long ago.
    Past(Duration),
    /// It heard no leader since it started.
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
    /// Whether there was a log when it started.
    restarted: bool,
    /// The first voters this server was told, itself among them or not.
    founders: Arc<BTreeSet<String>>,
    timing: RaftTiming,
    dialer: Arc<dyn Dial>,
    leader: Arc<Contact>,
    /// Held while the members are changed.
    changing: Arc<Mutex<()>>,
    state: Arc<State>,
    proposals: mpsc::Sender<Pending>,
    store: Observer,
}

/// What a member is started with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) store: Store,
    pub(crate) state: Arc<State>,
    /// The address under which others find this member.
    pub(crate) addr: &'a str,
    /// The first voters, this member among them or not; once there is a log, its voters count.
    pub(crate) peers: &'a [String],
    pub(crate) timing: RaftTiming,
    pub(crate) dialer: Arc<dyn Dial>,
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
    /// Starts the member. It goes on from its store's log, or founds or joins a cluster in the
    /// background.
    pub(crate) async fn start(tasks: &Tasks, start: Start<'_>) -> Result<Self, RaftError> {
        let Start { store, state, addr, peers, timing, dialer } = start;
        let id = store.node_id(rand::random())?;
        let restarted = store.journal().last().is_some();
        let machine = Machine::open(store.clone(), Arc::clone(&state))?;
        let disk = store.observe();
        let config = Arc::new(library_config(timing).validate().map_err(RaftError::library)?);
        let leader = Arc::default();
        let majority = Majority::default();
        let network = Network {
            dialer: Arc::clone(&dialer),
            store: store.clone(),
            majority: majority.clone(),
        };
        let raft = Raft::new(id, config, network, Log::new(store, id), machine).await;
        let raft = raft.map_err(RaftError::library)?;
        majority.known_by(raft.metrics());
        let proposals = proposals::start(tasks, raft.clone(), timing.write);
        let (addr, founders) = (addr.to_owned(), Arc::new(peers.iter().cloned().collect()));
        let (changing, store) = (Arc::default(), disk);
        let node = Self {
            raft,
            id,
            addr,
            restarted,
            founders,
            timing,
            dialer,
            leader,
            changing,
            state,
            proposals,
            store,
        };
        node.found_alone().await?;
        node.spawn_elections(tasks);
        node.spawn_keeper(tasks);
        Ok(node)
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

    /// Who leads and can be reached: nobody, once a leader lost its quorum or was not heard for long.
    pub(crate) fn leadership(&self) -> Leadership {
        let span = self.patience_with_silence();
        let (state, leader) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let leader = metrics.current_leader.map(|id| {
                let node = metrics.membership_config.membership().get_node(&id);
                (id, node.map(|node| node.addr.clone()))
            });
            (metrics.state, leader)
        };
        match leader {
            Some((id, _)) if id == self.id => {
                let held = self.since_quorum().is_some_and(|since| since <= span);
                if state == ServerState::Leader && held {
                    Leadership::Me
                } else {
                    Leadership::Unknown
                }
            }
            Some((_, Some(addr))) if self.leader.silent().is_some_and(|silent| silent <= span) => {
                Leadership::Other(addr)
            }
            Some(_) | None => Leadership::Unknown,
        }
    }

    /// How long a member may be silent before it is taken as lost.
    fn patience_with_silence(&self) -> Duration {
        self.timing.election * LOST_AFTER
    }

    /// How old what this member answers may be.
    pub(crate) fn age(&self) -> Age {
        let silent = match self.since_quorum() {
            Some(since) if since <= self.patience_with_silence() => return Age::Present,
            since @ Some(_) => since.filter(|since| *since != Duration::MAX),
            None => self.leader.silent(),
        };
        silent.map_or(Age::Unknown, Age::Past)
    }

    /// The newest term this member has heard of; the one it leads while it leads.
    pub(crate) fn term(&self) -> u64 {
        self.raft.metrics().borrow().current_term
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

    /// Waits until this member has something to answer with: a log, whose voters the library knows a moment
    /// after a start, or a leader that it follows.
    pub(crate) async fn of_use(&self) {
        let has_log = |node: &Self| node.is_founded() && !node.peers().is_empty();
        self.until(|node| has_log(node) || node.leadership() != Leadership::Unknown).await;
    }

    /// Waits until the log has ended because its disk failed or its task panicked, and says how. Never
    /// returns when it ends because it was told to.
    pub(crate) async fn failed(&self) -> String {
        // Ends with the log, and seldom changes before; the other metrics change with every entry.
        let mut life = self.raft.server_metrics();
        while life.changed().await.is_ok() {}
        let reason = match &self.raft.metrics().borrow().running_state {
            Err(Fatal::Stopped) => None,
            Err(failure @ (Fatal::StorageError(_) | Fatal::Panicked)) => Some(failure.to_string()),
            // A panic leaves no word here.
            Ok(()) => Some(Fatal::<NodeId>::Panicked.to_string()),
        };
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Waits until what `holds` says is so. Never returns once the member stopped.
    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.raft.metrics();
        loop {
            changes.borrow_and_update();
            if holds(self) {
                return;
            }
            // What is waited for may depend on time too.
            if let Ok(Err(_)) = tokio::time::timeout(LOOK, changes.changed()).await {
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
            while !self.store.is_closed() {
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
        // The longest one is also how long a voter that heard its leader votes for nobody else.
        election_timeout_min: millis(timing.election).saturating_sub(1),
        election_timeout_max: millis(timing.election),
        // See `election`.
        enable_elect: false,
        // A chunk must fit a frame in its text form, where a byte takes up to four characters.
        snapshot_max_chunk_size: 1 << 20,
        install_snapshot_timeout: 10_000,
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(timing.snapshot_after),
        max_in_snapshot_log_to_keep: timing.snapshot_after / 2,
        ..openraft::Config::default()
    }
}
