//! Each rule on a cluster that is well but for one thing, and all of them on clusters of chance.

mod discovery;
mod hosts;
mod platform;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::diagnose;
use crate::doctor::facts::{
    Discovery, Facts, HostAnswer, HostFacts, JobFacts, JobState, Machine, Platform, RouteFacts,
    Seen, Server, ServerAnswer, Silence, Waiting, Wanted,
};
use crate::doctor::finding::{Finding, Severity};

const GIB: u64 = 1 << 30;

#[test]
fn a_cluster_that_is_well_has_no_findings() {
    assert_eq!(diagnose(&well(3)), []);
    assert_eq!(diagnose(&well(1)), []);
    let mut five = well(5);
    // Later hosts follow without a vote.
    let three: BTreeSet<_> = (1..=3).map(ip).collect();
    for server in &mut five.discovery.servers {
        let answer = server.answer.as_mut().unwrap();
        answer.voters.clone_from(&three);
        answer.learners = Some([ip(4), ip(5)].into());
    }
    assert_eq!(diagnose(&five), []);
}

proptest! {
    /// Whatever is seen, it can be said: no rule fails, everything found has a reason and a command, and
    /// the worst comes first.
    #[test]
    fn whatever_is_seen_can_be_told(hosts in 0_u8..6, breaks in prop::collection::vec((0_usize..9, 0_u8..8), 0..12)) {
        let mut facts = well(hosts);
        for (kind, n) in breaks {
            break_something(&mut facts, kind, n);
        }
        let findings = diagnose(&facts);
        prop_assert!(findings.is_sorted_by_key(|finding| finding.severity));
        for finding in &findings {
            prop_assert!(!finding.why.is_empty() && !finding.next.is_empty(), "{finding:?}");
            prop_assert!(finding.next.iter().all(|step| !step.command.is_empty()), "{finding:?}");
        }
        prop_assert_eq!(findings.clone(), diagnose(&facts));
        if facts.answering().next().is_none() {
            prop_assert!(findings[0].severity == Severity::Critical);
        }
    }
}

fn break_something(facts: &mut Facts, kind: usize, n: u8) {
    let host = facts.hosts.get_mut(usize::from(n));
    let server = facts.discovery.servers.get_mut(usize::from(n));
    match (kind, host, server) {
        (0, Some(_), _) => away(facts, n + 1),
        (1, Some(host), _) => host.registered = false,
        (2, Some(host), _) => host.answer = Ok(HostAnswer::default()),
        (3, _, Some(server)) => server.answer = None,
        (4, _, Some(server)) => server.answer = Some(ServerAnswer::default()),
        (5, _, Some(server)) => {
            server.answer = Some(ServerAnswer {
                leader: Some(ip(n + 1)),
                voters: [ip(n), ip(n + 2)].into(),
                learners: Some([ip(n + 3)].into()),
            });
        }
        (6, _, _) => facts.platform = Platform::default(),
        (7, _, _) => facts.discovery.leases = Some([ip(n + 20)].into()),
        (8, Some(host), _) => host.answer = Err(Silence::NoDaemon),
        (_, _, _) => {}
    }
}

/// A cluster that is well but for what `change` does has these findings, a line each: severity, host,
/// code, first command.
fn check(hosts: u8, change: impl FnOnce(&mut Facts), expected: &str) {
    let mut facts = well(hosts);
    change(&mut facts);
    let expected: Vec<_> =
        expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines(&diagnose(&facts)), expected);
}

fn lines(findings: &[Finding]) -> Vec<String> {
    let line = |finding: &Finding| {
        let severity = finding.severity.word().to_lowercase();
        let host = finding.host.iter().map(|host| format!("{host} ")).collect::<String>();
        let step = finding.next.first().unwrap();
        let on = step.on.iter().map(|host| format!("on {host}: ")).collect::<String>();
        format!("{severity} {host}{} {on}{}", finding.code, step.command)
    };
    findings.iter().map(line).collect()
}

fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

fn job(host: &str, app: &str, process: &str) -> JobFacts {
    JobFacts {
        id: format!("{host}-{app}"),
        app: app.to_owned(),
        process: process.to_owned(),
        kept: true,
        ..JobFacts::default()
    }
}

/// Hosts 1 to `hosts`, all of them well, all voting, host1 leading and running the database.
fn well(hosts: u8) -> Facts {
    let all: BTreeSet<_> = (1..=hosts).map(ip).collect();
    let leader = all.first().copied();
    let server = |ip| {
        let answer = ServerAnswer { leader, voters: all.clone(), learners: Some(BTreeSet::new()) };
        Server { ip, answer: Some(answer) }
    };
    let services = ["controller-scheduler", "router-api"].map(|name| (name.to_owned(), 1));
    Facts {
        hosts: (1..=hosts).map(|n| well_host(n, &all)).collect(),
        discovery: Discovery {
            servers: all.iter().copied().map(server).collect(),
            leases: Some(all.clone()),
        },
        platform: Platform {
            services: Some(services.into()),
            database: Seen::Well,
            controller: Seen::Well,
            wanted: Some(Vec::new()),
            ..Platform::default()
        },
    }
}

fn well_host(n: u8, all: &BTreeSet<Ipv4Addr>) -> HostFacts {
    let id = format!("host{n}");
    let mut jobs = vec![job(&id, "discoverd", "app")];
    if n == 1 {
        jobs.extend([job(&id, "postgres", "postgres"), job(&id, "controller", "web")]);
    }
    let machine = Machine {
        data_dir: "/data".to_owned(),
        disk: (50 * GIB, 100 * GIB),
        memory: (4 * GIB, 8 * GIB),
        clock: (3, 5),
        members: all.iter().copied().filter(|other| *other != ip(n)).collect(),
    };
    let answer = HostAnswer {
        version: "1".to_owned(),
        draining: false,
        subnet: Some(format!("100.100.{n}.1/24")),
        jobs,
        machine: Some(machine),
    };
    HostFacts { ip: ip(n), id: Some(id), registered: true, answer: Ok(answer) }
}

/// A third host that is registered and well, without a vote.
fn add_third(facts: &mut Facts) {
    let all: BTreeSet<_> = (1..=3).map(ip).collect();
    facts.hosts.push(well_host(3, &all));
    (0..2).for_each(|n| machine(facts, n).members.clone_from(&all));
    let answer = facts.discovery.servers[0].answer.clone();
    facts.discovery.servers.push(Server { ip: ip(3), answer });
}

/// The machine of a host does not answer at all.
fn away(facts: &mut Facts, n: u8) {
    let at = usize::from(n) - 1;
    facts.hosts[at].answer = Err(Silence::Away("timed out".to_owned()));
    facts.discovery.servers[at].answer = None;
}

fn machine(facts: &mut Facts, at: usize) -> &mut Machine {
    facts.hosts[at].answer.as_mut().unwrap().machine.as_mut().unwrap()
}

fn each_server(facts: &mut Facts, change: impl Fn(&mut ServerAnswer)) {
    facts.discovery.servers.iter_mut().filter_map(|server| server.answer.as_mut()).for_each(change);
}

fn each_host(facts: &mut Facts, change: impl Fn(&mut HostAnswer)) {
    facts.hosts.iter_mut().filter_map(|host| host.answer.as_mut().ok()).for_each(change);
}
