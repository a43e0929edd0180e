//! Hosts: who is silent, who is a stranger to the others, who is being emptied.

use std::collections::BTreeMap;

use super::discovery::{Quorum, quorum};
use crate::doctor::facts::{Facts, HostFacts, Silence};
use crate::doctor::finding::Finding;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    if facts.answering().next().is_none() {
        all.push(nobody(facts));
        return all;
    }
    all.extend(facts.hosts.iter().filter_map(silent));
    all.extend(unregistered(facts));
    all.extend(strangers(facts));
    all.extend(draining(facts));
    all.extend(versions(facts));
    all.extend(two_hosts(facts));
    all
}

fn nobody(facts: &Facts) -> Finding {
    let asked: Vec<_> = facts.hosts.iter().map(HostFacts::name).collect();
    let asked = if asked.is_empty() { "this machine".to_owned() } else { asked.join(", ") };
    Finding::critical("no-host", format!("no flynn-host answers ({asked})"))
        .why("nothing can be said of the cluster, and nothing is started or stopped")
        .next("flynn-host start")
        .or_if("the cluster is elsewhere", "flynn-host doctor --peer-ips ADDRESS,ADDRESS")
}

fn silent(host: &HostFacts) -> Option<Finding> {
    let silence = host.answer.as_ref().err()?;
    let found = match silence {
        Silence::NoDaemon => Finding::warning(
            "host-no-daemon",
            "the machine is there, but flynn-host does not run on it",
        )
        .why("its jobs run on unwatched: none is restarted, started or stopped")
        .next_on(host.name(), "flynn-host start"),
        Silence::Away(reason) => {
            Finding::warning("host-silent", format!("does not answer at {}: {reason}", host.ip))
                .why("its jobs that may run elsewhere do; what keeps data there waits for it")
                .next(format!("ping -c 3 {}", host.ip))
                .or_if("it is up", format!("ssh {} flynn-host doctor", host.ip))
                .or_if("it is gone for good", format!("flynn-host forget {}", host.ip))
        }
    };
    Some(found.on(host.name()))
}

/// A host that runs and is not in discoverd gets no jobs.
fn unregistered(facts: &Facts) -> Vec<Finding> {
    if !matches!(quorum(facts), Quorum::Held { .. }) {
        return Vec::new();
    }
    let missing = facts.answering().filter(|(host, _)| !host.registered);
    let finding = |host: &HostFacts| {
        Finding::warning("host-unregistered", "runs, but discoverd does not list it")
            .on(host.name())
            .why("it gets no jobs, and counts as lost if it had some")
            .next(format!("flynn-host admit {}", host.ip))
            .or_if("it is admitted", format!("ssh {} tail /var/lib/flynn/flynn-host.log", host.ip))
    };
    missing.map(|(host, _)| finding(host)).collect()
}

/// Registered hosts that another host does not let in.
fn strangers(facts: &Facts) -> Vec<Finding> {
    let mut refused: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (host, answer) in facts.answering() {
        let Some(machine) = &answer.machine else { continue };
        let others = facts.hosts.iter().filter(|other| other.registered && other.ip != host.ip);
        for other in others.filter(|other| !machine.members.contains(&other.ip)) {
            refused.entry(other.ip).or_default().push(host.name());
        }
    }
    let finding = |(ip, by): (_, Vec<String>)| {
        Finding::warning("host-stranger", format!("is not known to {}", by.join(", ")))
            .on(facts.name_of(ip))
            .why("their guarded ports are closed to it: no layers, no quorum, no jobs' network")
            .next(format!("flynn-host admit {ip}"))
    };
    refused.into_iter().map(finding).collect()
}

fn draining(facts: &Facts) -> Vec<Finding> {
    let draining = facts.answering().filter(|(_, answer)| answer.draining);
    let finding = |host: &HostFacts| {
        Finding::note("host-draining", "is being emptied and takes no jobs")
            .on(host.name())
            .why("somebody asked for it; the other hosts carry its jobs")
            .next(format!("flynn-host drain --end {}", host.name()))
    };
    draining.map(|(host, _)| finding(host)).collect()
}

fn versions(facts: &Facts) -> Vec<Finding> {
    let mut by_version: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (host, answer) in facts.answering() {
        by_version.entry(&answer.version).or_default().push(host.name());
    }
    if by_version.len() < 2 {
        return Vec::new();
    }
    let list: Vec<_> = by_version
        .iter()
        .map(|(version, hosts)| format!("{version} on {}", hosts.join(", ")))
        .collect();
    // Those that are in the minority are the ones to change.
    let odd = by_version.values().min_by_key(|hosts| hosts.len());
    let odd = odd.and_then(|hosts| hosts.first()).cloned().unwrap_or_default();
    let finding = Finding::warning(
        "versions-differ",
        format!("hosts run different versions: {}", list.join("; ")),
    )
    .why("only hosts of one version are tested together")
    .next_on(odd, "flynn-host version   # install that of the others, then: flynn-host start");
    vec![finding]
}

fn two_hosts(facts: &Facts) -> Option<Finding> {
    (facts.hosts.len() == 2).then(|| {
        Finding::warning("two-hosts", "the cluster has two hosts")
            .why("the loss of either stops it: of two voters both must live")
            .next("flynn-host admit ADDRESS   # of a third one, then start flynn-host there")
    })
}
