//! `flynn-host doctor`: why a cluster is not well, and what to do about it. It asks and changes nothing.
//!
//! `gather` asks everybody there is and gives [`facts`]; `rules` makes [`finding`]s of them, and is pure.
//! A new thing to find is a fact, a function in `rules` and a line in docs/operating/trouble.md.

mod facts;
mod finding;
mod gather;
mod rules;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::Args;
use discoverd_api::Servers;
use serde_json::json;

use self::facts::Facts;
use self::finding::{Finding, Severity};
use self::rules::{Quorum, quorum};
use crate::{Common, daemon, say};

/// discoverd's port on every host.
pub(crate) const DISCOVERD_PORT: u16 = 1111;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// Hosts to ask besides those that are found.
    #[arg(long, value_delimiter = ',')]
    peer_ips: Vec<Ipv4Addr>,
}

/// What was found.
pub(crate) struct Diagnosis {
    facts: Facts,
    findings: Vec<Finding>,
}

/// A discoverd without a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostQuorum {
    /// Servers that answer and have the log, voters first.
    pub(crate) survivors: Vec<Ipv4Addr>,
    /// Voters that do not answer.
    pub(crate) silent: BTreeSet<Ipv4Addr>,
}

/// Ends with 1 when something matters.
pub(crate) async fn run(args: DoctorArgs, common: &Common) -> ExitCode {
    let diagnosis = examine(common, &args.peer_ips).await;
    if args.json {
        say(&format!("{:#}\n", diagnosis.json()));
    } else {
        say(&diagnosis.text());
    }
    ExitCode::from(u8::from(!diagnosis.is_healthy()))
}

/// Asks everybody.
pub(crate) async fn examine(common: &Common, peer_ips: &[Ipv4Addr]) -> Diagnosis {
    let local = format!("http://127.0.0.1:{}", host_api::PORT);
    let start = gather::Start {
        local: common.host_url.clone().unwrap_or(local),
        configured: daemon::configured_addresses().into_iter().collect(),
        hosts: peer_ips.iter().copied().collect(),
        discoverd: Servers::from_env(),
        host_port: host_api::PORT,
        discoverd_port: DISCOVERD_PORT,
    };
    Diagnosis::of(gather::gather(&start).await)
}

/// The process types that run on every host, by app; None when the controller does not say.
pub(crate) async fn on_every_host(common: &Common) -> Option<BTreeSet<(String, String)>> {
    let Diagnosis { facts, .. } = examine(common, &[]).await;
    let types = facts.platform.wanted?.into_iter().filter(|wanted| wanted.on_every_host);
    Some(types.map(|wanted| (wanted.app, wanted.process)).collect())
}

impl Diagnosis {
    fn of(facts: Facts) -> Self {
        let findings = rules::diagnose(&facts);
        Self { facts, findings }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        !self.findings.iter().any(|finding| finding.severity.matters())
    }

    /// How many hosts answer.
    pub(crate) fn answering(&self) -> usize {
        self.facts.answering().count()
    }

    /// What people call the hosts at these addresses.
    pub(crate) fn names_of(&self, ips: &BTreeSet<Ipv4Addr>) -> String {
        self.facts.names_of(ips)
    }

    /// Who is left and who is silent, where too few voters of discoverd answer.
    pub(crate) fn lost_quorum(&self) -> Option<LostQuorum> {
        let Quorum::Lost { voters, answering } = quorum(&self.facts) else { return None };
        let silent = voters.difference(&answering).copied().collect();
        // Without any voter a server that only has the log is better than none.
        let with_log = self.facts.discovery.answering().filter(|(_, said)| !said.voters.is_empty());
        let learners = with_log.map(|(ip, _)| ip).filter(|ip| !answering.contains(ip));
        let survivors = answering.iter().copied().chain(learners).collect();
        Some(LostQuorum { survivors, silent })
    }

    /// The findings, and one line about the whole.
    pub(crate) fn text(&self) -> String {
        format!("{}{}\n", finding::text(&self.findings), self.summary())
    }

    fn summary(&self) -> String {
        let count =
            |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let facts = &self.facts;
        let answering = facts.answering().count();
        let hosts = match (answering, facts.hosts.len()) {
            (1, 1) => "1 host".to_owned(),
            (all, known) if all == known => format!("{all} hosts"),
            (some, known) => format!("{some} of {known} hosts answer"),
        };
        let discoverd = match quorum(facts) {
            Quorum::Held { leader, voters } => {
                let plural = if voters.len() == 1 { "" } else { "s" };
                let leader = facts.name_of(leader);
                format!("discoverd led by {leader} with {} voter{plural}", voters.len())
            }
            Quorum::Nobody => "no discoverd".to_owned(),
            Quorum::Unfounded => "discoverd not founded yet".to_owned(),
            Quorum::Lost { .. } | Quorum::Leaderless { .. } => {
                "discoverd without a leader".to_owned()
            }
        };
        if self.is_healthy() {
            return format!("healthy: {hosts}, {discoverd}");
        }
        let (critical, warnings) = (count(Severity::Critical), count(Severity::Warning));
        format!("not healthy: {critical} critical, {warnings} warnings; {hosts}, {discoverd}")
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "healthy": self.is_healthy(),
            "summary": self.summary(),
            "findings": self.findings,
        })
    }
}
