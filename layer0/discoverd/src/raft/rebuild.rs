//! The last resort: the store of one server becomes that of a new cluster, which has this one voter. For a
//! quorum that is gone for good, and never by itself: an operator names the voters that are lost
//! (docs/adr/0008-rebuild.md).
//!
//! The request is a file beside the store, and is carried out by the next start, before anything else. The
//! new store has an id of its own, so that nothing that was meant for the old one reaches it, and begins
//! with a snapshot that lies far beyond whatever the old cluster wrote. An old member that comes back is
//! taken in as every stranger is, without a vote, and gets the snapshot in place of what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use discoverd_registry::{LeaseConfig, LogIndex};
use futures_util::future::join_all;
use kit_clock::Clock;
use openraft::storage::RaftStateMachine as _;
use openraft::{BasicNode, CommittedLeaderId, Membership};
use serde::{Deserialize, Serialize};

use super::frame::{Request, Response};
use super::machine::Machine;
use super::membership::{HELLO, MembershipError};
use super::store::{Beginning, FILE, LOGS, Store, StoreError, begin};
use super::types::{LogId, NodeId, SnapshotMeta, StoredMembership, Vote};
use super::{Leadership, Node, RaftError, dial, image};
use crate::state::State;

/// The request, in the data directory.
const REQUEST: &str = "rebuild.json";
/// Where the new store is made.
const WORKSHOP: &str = "rebuilt";
/// What the names of the old store's files end with from then on.
const KEPT: &str = ".before-rebuild";

/// By how much the new log is beyond the old one, which may have gone on elsewhere: entries, terms, and
/// changes of the registry. At a million changes a second an old cluster would need an hour to catch up.
const FAR: u64 = 1 << 32;

#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    /// Whose store is to be rebuilt: a request is carried out once.
    id: NodeId,
}

impl Node {
    /// Leaves a request for the next start. Refused where the quorum is not lost, where a voter that is
    /// silent was not named, and where another survivor has more of the log.
    pub(crate) async fn ask_for_rebuild(
        &self,
        lost: &BTreeSet<String>,
        directory: &Path,
    ) -> Result<(), MembershipError> {
        let refuse = |text: String| Err(MembershipError::Refused(text));
        if self.leadership() != Leadership::Unknown {
            return refuse("there is a leader: nothing needs to be rebuilt".to_owned());
        }
        if !self.is_founded() {
            return refuse("this server has no log: nothing can be rebuilt from it".to_owned());
        }
        let last = self.raft.data_metrics().borrow().last_log;
        let others = self.members().into_iter().filter(|(id, _)| *id != self.id);
        let asked = others.map(async |(id, addr)| {
            let request = Request::WouldVote(id, last);
            let answer = dial::ask(self.dialer.as_ref(), &addr, &request, HELLO).await;
            (addr, answer.ok())
        });
        let voters = self.peers();
        for (addr, answer) in join_all(asked).await {
            match answer {
                Some(Response::WouldVote(false)) => {
                    return refuse(format!("{addr} has more of the log: rebuild from it"));
                }
                Some(_) if lost.contains(&addr) => {
                    return refuse(format!("{addr} answers and is not lost"));
                }
                None if voters.contains(&addr) && !lost.contains(&addr) => {
                    return refuse(format!("{addr} is silent and was not named as lost"));
                }
                Some(_) | None => {}
            }
        }
        let left = voters.iter().filter(|addr| !lost.contains(*addr)).count();
        if left * 2 > voters.len() {
            return refuse(format!(
                "{left} of {} voters are left, which is a quorum",
                voters.len()
            ));
        }
        let written = write(&directory.join(REQUEST), &Asked { id: self.id });
        written.map_err(|error| MembershipError::Failed(error.to_string()))
    }
}

/// Carries out a request, if there is one. `addr` is what the one voter is found at.
pub(crate) async fn if_asked(
    directory: &Path,
    addr: &str,
    clock: Arc<dyn Clock>,
    leases: LeaseConfig,
) -> Result<(), RaftError> {
    let request = directory.join(REQUEST);
    let asked: Asked = match fs::read(&request) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|source| StoreError::Unreadable { what: REQUEST, source })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(directory)(error).into()),
    };
    let workshop = directory.join(WORKSHOP);
    let store = Store::open(directory)?;
    if store.node_id(rand::random())? == asked.id {
        match fs::remove_dir_all(&workshop) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(directory)(error).into());
            }
            Ok(()) | Err(_) => {}
        }
        tracing::warn!(%addr, "the quorum was given up: this server begins a new cluster with what it has");
        fs::create_dir(&workshop).map_err(failed(directory))?;
        rebuild(store, &workshop, addr, State::new(clock, leases)).await?;
        replace(directory).map_err(failed(directory))?;
    }
    fs::remove_file(&request).map_err(failed(directory))?;
    Ok(())
}

/// Begins a store in `workshop` with all that `store` knows. Entries whose fate is not known are taken as written.
async fn rebuild(store: Store, workshop: &Path, addr: &str, state: State) -> Result<(), RaftError> {
    let state = Arc::new(state);
    let mut machine = Machine::open(store.clone(), Arc::clone(&state))?;
    let (applied, _) = machine.applied_state().await.map_err(RaftError::library)?;
    let rest = store.journal().entries(&(applied.map_or(0, |id| id.index + 1)..))?;
    let last = rest.last().map(|entry| entry.log_id).or(applied);
    machine.apply(rest).await.map_err(RaftError::library)?;

    let id = rand::random();
    let voted = store.vote()?.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.map_or(0, |id| id.leader_id.term)) + FAR;
    let at = LogId::new(CommittedLeaderId::new(term, id), last.map_or(0, |id| id.index) + FAR);
    let nodes = BTreeMap::from([(id, BasicNode::new(addr))]);
    let membership = Membership::new(vec![BTreeSet::from([id])], nodes);
    let meta = SnapshotMeta {
        last_log_id: Some(at),
        last_membership: StoredMembership::new(Some(at), membership),
        snapshot_id: format!("rebuilt-{term}-{}", at.index),
    };
    let mut snapshot = state.snapshot();
    snapshot.applied = LogIndex(snapshot.applied.0 + FAR);
    let data = image::encode(snapshot)
        .map_err(|source| StoreError::Unreadable { what: "snapshot", source })?;
    let vote = Vote::new(term, id);
    Ok(begin(workshop, Beginning { id, vote, snapshot: (&meta, data), purged: at })?)
}

/// Puts the new store in the old one's place at once, and keeps the old one beside it.
fn replace(directory: &Path) -> io::Result<()> {
    for name in LOGS.into_iter().chain([FILE]) {
        let kept = directory.join(format!("{name}{KEPT}"));
        fs::copy(directory.join(name), &kept)?;
        File::open(kept)?.sync_all()?;
    }
    fs::rename(directory.join(WORKSHOP).join(FILE), directory.join(FILE))?;
    fs::remove_dir(directory.join(WORKSHOP))?;
    File::open(directory)?.sync_all()
}

fn write(path: &Path, asked: &Asked) -> io::Result<()> {
    let part = path.with_extension("part");
    let file = File::create(&part)?;
    serde_json::to_writer(&file, asked)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn failed(directory: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = directory.display().to_string();
    move |source| StoreError::Directory { path: path.clone(), source }
}
