//! discoverd: its quorum, its voters and what belongs to hosts that are gone; and the subnets' leases, which
//! are kept in it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::doctor::facts::{Facts, ServerAnswer};
use crate::doctor::finding::Finding;

/// Whether discoverd can take writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Quorum {
    /// No server answers.
    Nobody,
    /// Servers answer and belong to no cluster yet.
    Unfounded,
    /// Too few voters answer for any of them to lead.
    Lost { voters: BTreeSet<Ipv4Addr>, answering: BTreeSet<Ipv4Addr> },
    /// Enough voters answer and none leads.
    Leaderless { voters: BTreeSet<Ipv4Addr> },
    /// One leads.
    Held { leader: Ipv4Addr, voters: BTreeSet<Ipv4Addr> },
}

/// As seen by the server that knows best.
pub(crate) fn quorum(facts: &Facts) -> Quorum {
    let Some((_, best)) = facts.discovery.best() else { return Quorum::Nobody };
    let voters = best.voters.clone();
    if let Some(leader) = best.leader {
        return Quorum::Held { leader, voters };
    }
    if voters.is_empty() {
        return Quorum::Unfounded;
    }
    let answering: BTreeSet<_> =
        voters.iter().copied().filter(|ip| facts.discovery.answers(*ip)).collect();
    if answering.len() * 2 > voters.len() {
        return Quorum::Leaderless { voters };
    }
    Quorum::Lost { voters, answering }
}

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    match quorum(facts) {
        Quorum::Nobody => all.extend(nobody(facts)),
        Quorum::Unfounded => all.push(unfounded()),
        Quorum::Lost { voters, answering } => all.push(lost(facts, &voters, &answering)),
        Quorum::Leaderless { voters } => all.push(leaderless(facts, &voters)),
        Quorum::Held { voters, .. } => {
            all.extend(two_heads(facts));
            all.extend(number(facts, &voters));
            all.extend(voters_away(facts, &voters));
            all.extend(learners_gone(facts));
            all.extend(servers_away(facts, &voters));
            all.extend(leases_gone(facts));
        }
    }
    all
}

/// A host with jobs and no discoverd is one whose discoverd ended; one without has no cluster yet.
fn nobody(facts: &Facts) -> Option<Finding> {
    let (host, _) = facts.answering().next()?;
    let ran = facts.answering().find_map(|(host, _)| facts.job_of(host.ip, "discoverd"));
    Some(match ran {
        Some(job) => Finding::critical("no-discoverd", "no discoverd answers on any host")
            .why("no service is found anew; what runs goes on with what it knows")
            .next(format!("flynn-host log --host-url http://{}:1113 {}", host.ip, job.id))
            .or_if("it was stopped", "flynn-host fix"),
        None => Finding::critical("no-platform", "hosts run, and there is no platform on them")
            .why("nothing but jobs started by hand can run")
            .next("CLUSTER_DOMAIN=example.com flynn-host bootstrap"),
    })
}

fn unfounded() -> Finding {
    Finding::critical("discoverd-unfounded", "discoverd runs and waits for its other first voters")
        .why("a cluster is founded once, by all of them; until then nothing can be registered")
        .next("flynn-host ps   # then: flynn-host log of a discoverd, which says who is missing")
}

fn lost(facts: &Facts, voters: &BTreeSet<Ipv4Addr>, answering: &BTreeSet<Ipv4Addr>) -> Finding {
    let away: BTreeSet<_> = voters - answering;
    let needed = voters.len() / 2 + 1;
    let seen = format!(
        "discoverd has no quorum: {} of {} voters answer and {needed} must; silent: {}",
        answering.len(),
        voters.len(),
        facts.names_of(&away),
    );
    let mut found = Finding::critical("quorum-lost", seen)
        .why("nothing can be registered, moved or deployed; what runs goes on");
    for ip in &away {
        found = found.next_on(facts.name_of(*ip), "flynn-host start");
    }
    found.or_if("they never come back", "flynn-host fix")
}

fn leaderless(facts: &Facts, voters: &BTreeSet<Ipv4Addr>) -> Finding {
    let seen =
        format!("enough voters of discoverd answer, and none leads: {}", facts.names_of(voters));
    let found = Finding::critical("no-leader", seen)
        .why("nothing can be registered, moved or deployed until one is elected")
        .next("flynn-host doctor   # again: an election takes two seconds");
    let mut ips = voters.iter();
    match (ips.next(), ips.next()) {
        (Some(one), Some(other)) => {
            let command = format!("ssh {one} curl -s -m 3 http://{other}:1111/ping");
            found.or_if("it stays, see whether they reach each other", command)
        }
        (_, _) => found,
    }
}

/// Servers that name different leaders; one of them lags behind, or there are two clusters.
fn two_heads(facts: &Facts) -> Option<Finding> {
    let servers: Vec<_> = facts.discovery.answering().collect();
    let leaders: BTreeSet<_> = servers
        .iter()
        .filter(|(ip, answer)| answer.leader == Some(*ip))
        .map(|(ip, _)| *ip)
        .collect();
    (leaders.len() > 1).then(|| {
        let seen = format!("several discoverd lead: {}", facts.names_of(&leaders));
        let separate = servers.iter().any(|(ip, answer)| {
            leaders.contains(ip) && leaders.iter().any(|other| !answer.voters.contains(other))
        });
        let why = if separate {
            "there are two clusters: what one is told the other does not know"
        } else {
            "one of them is cut off or was just replaced; it takes no writes"
        };
        Finding::critical("two-leaders", seen)
            .why(why)
            .next("flynn-host doctor   # again: one that was replaced knows it within seconds")
    })
}

fn number(facts: &Facts, voters: &BTreeSet<Ipv4Addr>) -> Option<Finding> {
    let registered: BTreeSet<_> =
        facts.hosts.iter().filter(|host| host.registered).map(|host| host.ip).collect();
    let candidate = registered.difference(voters).next();
    if voters.len().is_multiple_of(2) {
        let found =
            Finding::warning("voters-even", format!("discoverd has {} voters", voters.len())).why(
                "an even number bears no more losses than one less, and is outvoted by halves",
            );
        let last = voters.iter().next_back().copied();
        return Some(match (candidate, last) {
            (Some(ip), _) => found.next(format!("flynn-host promote {ip}")),
            (None, Some(ip)) => found.next(format!("flynn-host demote {ip}")),
            (None, None) => found,
        });
    }
    let found = (voters.len() == 1 && registered.len() >= 3).then(|| {
        let seen = format!("discoverd has one voter, and there are {} hosts", registered.len());
        Finding::warning("voters-few", seen).why("the loss of that one host stops the cluster")
    })?;
    Some(candidate.iter().fold(found, |found, ip| found.next(format!("flynn-host promote {ip}"))))
}

/// Voters that do not answer, of hosts that are gone or away.
fn voters_away(facts: &Facts, voters: &BTreeSet<Ipv4Addr>) -> Vec<Finding> {
    let answering = voters.iter().filter(|ip| facts.discovery.answers(**ip)).count();
    let spare = answering.saturating_sub(voters.len() / 2 + 1);
    let away = voters.iter().copied().filter(|ip| !facts.discovery.answers(*ip));
    let finding = |ip: Ipv4Addr| {
        let host = facts.host_at(ip);
        let code = if host.is_some() { "voter-away" } else { "voter-of-nobody" };
        let seen = match host {
            Some(_) => format!("its discoverd votes and does not answer; {spare} more may be lost"),
            None => format!(
                "a voter of discoverd is on no known host and does not answer; {spare} more may be lost"
            ),
        };
        let why = "a voter that is gone counts for the quorum all the same, until it is removed";
        let found = Finding::warning(code, seen).on(facts.name_of(ip)).why(why);
        let remove = format!("flynn-host demote --force {ip}");
        match host {
            Some(host) => found
                .next_on(host.name(), "flynn-host start")
                .or_if("it stays away for long", remove),
            None => found.next(remove),
        }
    };
    away.map(finding).collect()
}

fn learners_gone(facts: &Facts) -> Vec<Finding> {
    let best = facts.discovery.best().map(|(_, answer)| answer);
    let learners = best.and_then(|answer| answer.learners.as_ref()).into_iter().flatten();
    let gone =
        learners.filter(|ip| !facts.discovery.answers(**ip) && facts.host_at(**ip).is_none());
    let finding = |ip: &Ipv4Addr| {
        Finding::warning("member-of-nobody", "a discoverd without a vote is on no known host")
            .on(ip.to_string())
            .why("the leader keeps calling it, and whoever gets its address is asked for names")
            .next(format!("flynn-host forget {ip}"))
    };
    gone.map(finding).collect()
}

/// Hosts whose daemon answers and whose discoverd does not, or belongs to nobody.
fn servers_away(facts: &Facts, voters: &BTreeSet<Ipv4Addr>) -> Vec<Finding> {
    let finding = |ip: Ipv4Addr, seen: &str| {
        let found = Finding::warning("discoverd-away", seen)
            .on(facts.name_of(ip))
            .why("jobs there find no names and register nowhere");
        match facts.job_of(ip, "discoverd") {
            Some(job) => found.next(format!("flynn-host log {}", job.id)),
            None => found.next("flynn -a discoverd ps"),
        }
    };
    let known = |answer: &ServerAnswer| answer.leader.is_some() || !answer.voters.is_empty();
    let mut all = Vec::new();
    for (host, _) in facts.answering().filter(|(host, _)| host.registered) {
        let server = facts.discovery.answering().find(|(ip, _)| *ip == host.ip);
        match server {
            // A voter has a finding of its own.
            None if !voters.contains(&host.ip) => {
                all.push(finding(host.ip, "its discoverd does not answer"));
            }
            Some((_, answer)) if !known(answer) => {
                all.push(finding(host.ip, "its discoverd belongs to no cluster"));
            }
            Some((_, answer)) if answer.leader.is_none() => {
                all.push(finding(host.ip, "its discoverd hears no leader, although there is one"));
            }
            Some(_) | None => {}
        }
    }
    all
}

fn leases_gone(facts: &Facts) -> Vec<Finding> {
    let leases = facts.discovery.leases.iter().flatten();
    let gone = leases.filter(|ip| facts.host_at(**ip).is_none());
    let finding = |ip: &Ipv4Addr| {
        Finding::warning("lease-of-nobody", "a subnet is leased to a host that nobody knows")
            .on(ip.to_string())
            .why("packets for its old jobs still go to that address")
            .next(format!("flynn-host forget {ip}"))
    };
    gone.map(finding).collect()
}
