//! The hosts that count. Whoever was seen once stays known, in discovery's log, so that neither a new
//! leader nor a restart takes a host for gone that is only late; and a host is lost only after a whole
//! while of silence in which controller and a quorum of discovery answered.
//!
//! The set is kept in the metadata of the schedulers' own service and not in the controller's database:
//! hosts are facts of the cluster below the platform. A database that was restored from a backup
//! must not bring yesterday's hosts with it, and a change of the metadata proves a quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use kit_clock::Mono;
use kit_ids::HostId;
use placement::{Host, HostState, Policy};

use crate::cluster::{Away, Cluster, HostAnswer, HostSeen, Kept, KeptHost};
use crate::memory::{KnownHost, Memory};
use crate::records;
use crate::view::View;

/// How many hosts are asked at a time.
const ASKED_AT_ONCE: usize = 32;
/// How long a round waits for a host that did not answer the last time, and for a quorum.
const PATIENCE: Duration = Duration::from_secs(2);

/// Learns of hosts, asks all of them, keeps them, and forgets those that are gone for good.
pub(crate) async fn meet<C: Cluster>(
    cluster: &C,
    memory: &mut Memory,
    view: &View,
    policy: &Policy,
    now: Mono,
) -> Result<(), Away> {
    let listed = cluster.hosts().await?;
    if memory.kept.is_none() {
        memory.kept = Some(cluster.kept().await?);
    }
    note_view(memory, policy, now);
    learn(memory, view, listed);
    ask(cluster, memory, now).await;
    forget(memory, view, policy, now);
    keep(cluster, memory, policy, now).await;
    Ok(())
}

/// What the planner is told of a host.
pub(crate) fn planned(host: &KnownHost, memory: &Memory) -> Host {
    let state = match host.silent {
        None if host.seen.draining => HostState::Draining,
        None => HostState::Serving,
        // It said goodbye: there is nothing to wait for.
        Some(_) if has_left(host) => HostState::Silent { since: Mono::ZERO },
        Some(since) => HostState::Silent { since: silent_since(since, memory) },
    };
    Host { tags: host.seen.tags.clone(), capacity: host.last.capacity, state }
}

/// Whether somebody is silent whose loss is not decided: then time passes in short rounds.
pub(crate) fn awaits_somebody(memory: &Memory, policy: &Policy, now: Mono) -> bool {
    memory.hosts.values().any(|host| host.silent.is_some() && !is_lost(host, memory, policy, now))
}

/// A long break, of ours or of those that are asked, says nothing about hosts: their time starts anew.
fn note_view(memory: &mut Memory, policy: &Policy, now: Mono) {
    if memory.viewed.is_some_and(|viewed| now.since(viewed) > policy.lost_after / 2) {
        memory.full_view = None;
    }
    memory.viewed = Some(now);
    memory.full_view.get_or_insert(now);
}

/// Discovery knows best, then what was kept; a job or a volume at least names its host.
fn learn(memory: &mut Memory, view: &View, listed: Vec<HostSeen>) {
    let nameless =
        |id: HostId| HostSeen { id, url: String::new(), tags: BTreeMap::new(), draining: false };
    let kept = memory.kept.iter().flat_map(|kept| &kept.hosts);
    let kept = kept.map(|(id, host)| HostSeen {
        id: id.clone(),
        url: host.url.clone(),
        tags: host.tags.clone(),
        draining: host.draining,
    });
    let named = named(view).into_iter().map(nameless);
    for seen in kept.chain(named).collect::<Vec<_>>() {
        memory.hosts.entry(seen.id.clone()).or_insert_with(|| KnownHost::new(seen));
    }
    for host in memory.hosts.values_mut() {
        host.listed = false;
    }
    for seen in listed {
        let host =
            memory.hosts.entry(seen.id.clone()).or_insert_with(|| KnownHost::new(seen.clone()));
        (host.seen, host.listed) = (seen, true);
    }
}

/// Asks all of them, those that discovery has lost sight of too.
async fn ask<C: Cluster>(cluster: &C, memory: &mut Memory, now: Mono) {
    let hosts = memory.hosts.values().map(|host| (host.seen.clone(), host.silent.is_some()));
    let mut answers = futures_util::stream::iter(hosts.collect::<Vec<_>>())
        .map(|(seen, was_silent)| async move {
            let answer = ask_one(cluster, &seen, was_silent).await;
            (seen.id, answer)
        })
        .buffer_unordered(ASKED_AT_ONCE);
    while let Some((id, answer)) = answers.next().await {
        let Some(host) = memory.hosts.get_mut(&id) else { continue };
        match answer {
            Ok(answer) => (host.last, host.silent) = (answer, None),
            Err(error) => {
                if host.silent.is_none() {
                    tracing::warn!(host = %id, %error, "host does not answer");
                }
                host.silent.get_or_insert(now);
            }
        }
    }
}

/// A host that is silent already does not hold up the others for long.
async fn ask_one<C: Cluster>(
    cluster: &C,
    seen: &HostSeen,
    was_silent: bool,
) -> Result<HostAnswer, Away> {
    if !was_silent {
        return cluster.ask(seen).await;
    }
    let answer = tokio::time::timeout(PATIENCE, cluster.ask(seen)).await;
    answer.unwrap_or_else(|_| Err(Away("no answer in time".to_owned())))
}

/// A lost host that discovery does not list and of which nothing is left need not be known.
fn forget(memory: &mut Memory, view: &View, policy: &Policy, now: Mono) {
    let named = named(view);
    let gone = |host: &KnownHost| {
        is_lost(host, memory, policy, now) && !host.listed && !named.contains(&host.seen.id)
    };
    let gone: Vec<HostId> =
        memory.hosts.values().filter(|host| gone(host)).map(|host| host.seen.id.clone()).collect();
    for id in gone {
        tracing::info!(host = %id, "host is gone and nothing of it is left");
        memory.hosts.remove(&id);
    }
}

/// Keeps what changed; with somebody silent in any case, for that proves a quorum. Without one nobody
/// is lost: perhaps it is us who are cut off.
async fn keep<C: Cluster>(cluster: &C, memory: &mut Memory, policy: &Policy, now: Mono) {
    let hosts: BTreeMap<HostId, KeptHost> = memory
        .hosts
        .iter()
        .filter(|(_, host)| !host.seen.url.is_empty())
        .map(|(id, host)| {
            let HostSeen { url, tags, draining, .. } = host.seen.clone();
            (id.clone(), KeptHost { url, tags, draining })
        })
        .collect();
    let awaits = awaits_somebody(memory, policy, now);
    let Some(known) = &memory.kept else { return };
    if known.hosts == hosts && !awaits {
        return;
    }
    let kept = Kept { index: known.index, hosts };
    let written = tokio::time::timeout(PATIENCE, cluster.keep(&kept)).await;
    match written.unwrap_or_else(|_| Err(Away("no answer in time".to_owned()))) {
        Ok(index) => memory.kept = Some(Kept { index, ..kept }),
        Err(error) => {
            tracing::warn!(%error, "hosts not kept, trying again; nobody counts as lost meanwhile");
            (memory.kept, memory.full_view) = (None, Some(now));
        }
    }
}

/// Hosts that jobs and volumes are on.
fn named(view: &View) -> BTreeSet<HostId> {
    let volumes = view.volumes.iter().filter(|volume| {
        volume.decommissioned_at.is_none()
            && !volume.delete_on_stop
            && volume.state != Some(controller_api::VolumeState::Destroyed)
    });
    let of_jobs = view.recorded.values().filter_map(records::host_of);
    of_jobs.chain(volumes.filter_map(|volume| volume.host_id.clone())).collect()
}

fn has_left(host: &KnownHost) -> bool {
    host.seen.draining && !host.listed
}

fn silent_since(since: Mono, memory: &Memory) -> Mono {
    memory.full_view.map_or(since, |full| since.max(full))
}

fn is_lost(host: &KnownHost, memory: &Memory, policy: &Policy, now: Mono) -> bool {
    let Some(since) = host.silent else { return false };
    has_left(host) || now.since(silent_since(since, memory)) >= policy.lost_after
}
