//! `flynn-host doctor`: why a cluster is not well, and what to do about it. It asks and changes nothing.
//!
//! `gather` asks everybody there is and gives [`facts`]; `rules` makes [`finding`]s of them, and is pure.
//! A new thing to find is a fact, a function in `rules` and a line in docs/operating/trouble.md.

mod facts;
mod finding;
mod gather;
mod rules;

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
    let configured = daemon::configured_addresses();
    let start = gather::Start {
        local: common.host_url.clone().unwrap_or(local),
        hosts: configured.into_iter().chain(peer_ips.iter().copied()).collect(),
        discoverd: Servers::from_env(),
        host_port: host_api::PORT,
        discoverd_port: DISCOVERD_PORT,
    };
    Diagnosis::of(gather::gather(&start).await)
}

impl Diagnosis {
    fn of(facts: Facts) -> Self {
        let findings = rules::diagnose(&facts);
        Self { facts, findings }
    }

    fn is_healthy(&self) -> bool {
        !self.findings.iter().any(|finding| finding.severity.matters())
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
