//! Many callers, one write: commands that arrive while a write is under way go into the next one
//! together, so that a disk that syncs a hundred times a second still takes thousands of registrations.

use std::time::Duration;

use discoverd_registry::Answer;
use kit_tasks::Tasks;
use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};

use super::command::{Answers, LogCommand, Proposal};
use super::types::Raft;
use super::{Leadership, ProposeError};

/// Commands that may wait for the write under way. Further callers wait for room, which slows them down
/// instead of piling up memory.
const QUEUE: usize = 1024;
/// Commands of one entry.
const BATCH: usize = 256;
/// An entry is not filled further once its metadata has this many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// A command and who waits for it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) command: LogCommand,
    pub(super) done: oneshot::Sender<Result<Answer, ProposeError>>,
}

/// Starts the task that writes.
pub(super) fn start(tasks: &Tasks, raft: Raft, patience: Duration) -> mpsc::Sender<Pending> {
    let (sender, mut queue) = mpsc::channel(QUEUE);
    tasks.spawn_until_stop("proposals", async move {
        while let Some(first) = queue.recv().await {
            let batch = fill(first, &mut queue);
            write(&raft, batch, patience).await;
        }
    });
    sender
}

/// Takes what waits already, up to the bounds.
fn fill(first: Pending, queue: &mut mpsc::Receiver<Pending>) -> Vec<Pending> {
    let mut bytes = weight(&first.command);
    let mut batch = vec![first];
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        bytes += weight(&next.command);
        batch.push(next);
    }
    batch
}

/// The part of a command that a client chooses the size of.
fn weight(command: &LogCommand) -> usize {
    match command {
        LogCommand::SetMeta { data, .. } => data.len(),
        LogCommand::AddInstance { meta, .. } => {
            meta.iter().map(|(key, value)| key.len() + value.len()).sum()
        }
        LogCommand::AddService { .. }
        | LogCommand::RemoveService { .. }
        | LogCommand::SetLeader { .. }
        | LogCommand::RemoveInstance { .. }
        | LogCommand::Expire { .. } => 0,
    }
}

async fn write(raft: &Raft, batch: Vec<Pending>, patience: Duration) {
    let (commands, callers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|pending| (pending.command, pending.done)).unzip();
    let written = tokio::time::timeout(patience, raft.client_write(Proposal::new(commands))).await;
    match written {
        Ok(Ok(response)) => answer(callers, response.data),
        Ok(Err(error)) => {
            let leader = refusal(&error);
            for caller in callers {
                // A caller that went away needs no answer.
                let _ = caller.send(Err(leader
                    .clone()
                    .map_or(ProposeError::Unconfirmed, ProposeError::NotLeader)));
            }
        }
        Err(_) => {
            tracing::warn!(?patience, "no quorum confirmed a write in time");
            for caller in callers {
                let _ = caller.send(Err(ProposeError::Unconfirmed));
            }
        }
    }
}

fn answer(callers: Vec<oneshot::Sender<Result<Answer, ProposeError>>>, answers: Answers) {
    debug_assert_eq!(callers.len(), answers.results.len(), "one answer a command");
    for (caller, answer) in callers.into_iter().zip(answers.results) {
        let _ = caller.send(answer.map_err(ProposeError::Refused));
    }
}

/// Who leads instead, where that is the reason.
fn refusal(
    error: &RaftError<u64, ClientWriteError<u64, openraft::BasicNode>>,
) -> Option<Leadership> {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            let leader = forward.leader_node.as_ref().map(|node| node.addr.clone());
            Some(leader.map_or(Leadership::Unknown, Leadership::Other))
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(_)) | RaftError::Fatal(_) => {
            tracing::error!(%error, "a write failed");
            None
        }
    }
}
