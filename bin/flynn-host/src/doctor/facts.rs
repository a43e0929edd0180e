//! What was seen of a cluster, as plain data. The rules decide from this and from nothing else; nothing here
//! asks anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Every host that anybody knows, by address.
    pub(crate) hosts: Vec<HostFacts>,
    pub(crate) discovery: Discovery,
    pub(crate) platform: Platform,
}

/// One host.
#[derive(Clone, Debug)]
pub(crate) struct HostFacts {
    pub(crate) ip: Ipv4Addr,
    /// Its id, where it or discoverd said it.
    pub(crate) id: Option<String>,
    /// Discoverd lists it.
    pub(crate) registered: bool,
    pub(crate) answer: Result<HostAnswer, Silence>,
}

/// Why a host said nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The machine is there and no daemon listens.
    NoDaemon,
    /// Nothing came back in time, or something that is no answer.
    Away(String),
}

/// What a host's daemon said.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostAnswer {
    pub(crate) version: String,
    pub(crate) draining: bool,
    /// It has a network for jobs.
    pub(crate) subnet: Option<String>,
    pub(crate) jobs: Vec<JobFacts>,
    /// None of a daemon that is older than the question.
    pub(crate) machine: Option<Machine>,
}

/// How a machine is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) data_dir: String,
    /// Free and total bytes; a total of zero is not known.
    pub(crate) disk: (u64, u64),
    pub(crate) memory: (u64, u64),
    /// Its clock minus ours, milliseconds, and by how much that may be wrong.
    pub(crate) clock: (i64, u64),
    /// The hosts it knows.
    pub(crate) members: BTreeSet<Ipv4Addr>,
}

/// One job on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobFacts {
    pub(crate) id: String,
    /// Empty for a job of no app.
    pub(crate) app: String,
    pub(crate) process: String,
    pub(crate) state: JobState,
    /// Its host restarts it.
    pub(crate) resurrect: bool,
    /// It is one of a formation: somebody starts another one when it ends.
    pub(crate) kept: bool,
    /// Somebody asked for its end.
    pub(crate) stopped: bool,
    /// How long its program ran; zero when it never did.
    pub(crate) ran_for: Duration,
    /// The job it came after.
    pub(crate) predecessor: Option<String>,
    pub(crate) error: Option<String>,
}

/// How a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum JobState {
    #[default]
    Active,
    /// With exit status 0.
    Done {
        /// Since when.
        ago: Duration,
    },
    /// With another one, or it never ran.
    Failed {
        /// Since when.
        ago: Duration,
    },
}

/// What is known of discoverd.
#[derive(Clone, Debug, Default)]
pub(crate) struct Discovery {
    /// Every server that was asked: on each host, and wherever a server said there is another one.
    pub(crate) servers: Vec<Server>,
    /// The hosts that have a lease of a subnet; None when nobody could say.
    pub(crate) leases: Option<BTreeSet<Ipv4Addr>>,
}

/// One discoverd.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) ip: Ipv4Addr,
    /// None when it does not answer.
    pub(crate) answer: Option<ServerAnswer>,
}

/// What a discoverd said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerAnswer {
    /// Who leads, if it knows.
    pub(crate) leader: Option<Ipv4Addr>,
    pub(crate) voters: BTreeSet<Ipv4Addr>,
    /// Those that have the log and no vote; None of a server that is older than the question.
    pub(crate) learners: Option<BTreeSet<Ipv4Addr>>,
}

/// What is known of the platform above discoverd.
#[derive(Clone, Debug, Default)]
pub(crate) struct Platform {
    /// Instances by service; None when discoverd could not be asked.
    pub(crate) services: Option<BTreeMap<String, usize>>,
    pub(crate) database: Seen,
    pub(crate) controller: Seen,
    /// What is wanted; None when the controller did not say.
    pub(crate) wanted: Option<Vec<Wanted>>,
    /// Jobs that no host takes.
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) routes: Vec<RouteFacts>,
}

/// How a part of the platform was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nobody knows where it would be.
    #[default]
    NotAsked,
    Well,
    /// It answers that it is not well, or not at all.
    Unwell(String),
}

/// How many jobs of a process type are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) app: String,
    pub(crate) process: String,
    /// Part of the platform.
    pub(crate) system: bool,
    pub(crate) count: usize,
    /// The count is for each host.
    pub(crate) on_every_host: bool,
    /// Only hosts with certain tags may run it.
    pub(crate) tagged: bool,
}

/// A job that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) app: String,
    pub(crate) process: String,
    pub(crate) reason: String,
}

/// A route of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteFacts {
    pub(crate) domain: String,
    /// Empty for a route of no app.
    pub(crate) app: String,
    /// Instances of its service; None when discoverd could not be asked.
    pub(crate) backends: Option<usize>,
    /// Jobs its app wants, of all process types.
    pub(crate) wanted: usize,
    /// Where the name leads: nowhere when it does not exist. None when nobody could say.
    pub(crate) addresses: Option<Vec<IpAddr>>,
}

impl HostFacts {
    /// What people call it.
    pub(crate) fn name(&self) -> String {
        self.id.clone().unwrap_or_else(|| self.ip.to_string())
    }
}

impl Facts {
    /// The hosts whose daemons answer, with their answers.
    pub(crate) fn answering(&self) -> impl Iterator<Item = (&HostFacts, &HostAnswer)> {
        self.hosts.iter().filter_map(|host| Some((host, host.answer.as_ref().ok()?)))
    }

    pub(crate) fn host_at(&self, ip: Ipv4Addr) -> Option<&HostFacts> {
        self.hosts.iter().find(|host| host.ip == ip)
    }

    /// What people call whatever is at an address.
    pub(crate) fn name_of(&self, ip: Ipv4Addr) -> String {
        self.host_at(ip).map_or_else(|| ip.to_string(), HostFacts::name)
    }

    /// `host1, host2`.
    pub(crate) fn names_of<'a>(&self, ips: impl IntoIterator<Item = &'a Ipv4Addr>) -> String {
        let names: Vec<_> = ips.into_iter().map(|ip| self.name_of(*ip)).collect();
        names.join(", ")
    }

    /// A job of an app that runs on a host, or the one of it that ended last.
    pub(crate) fn job_of(&self, ip: Ipv4Addr, app: &str) -> Option<&JobFacts> {
        let jobs = &self.host_at(ip)?.answer.as_ref().ok()?.jobs;
        let of_app = || jobs.iter().filter(|job| job.app == app);
        let active = of_app().find(|job| job.state == JobState::Active);
        active.or_else(|| of_app().min_by_key(|job| job.state.ended_ago()))
    }

    /// The hosts on which a job of the app starts or runs.
    pub(crate) fn hosts_running(&self, app: &str) -> Vec<String> {
        let runs = |answer: &HostAnswer| {
            answer.jobs.iter().any(|job| job.app == app && job.state == JobState::Active)
        };
        self.answering().filter(|(_, answer)| runs(answer)).map(|(host, _)| host.name()).collect()
    }
}

impl JobState {
    /// Since when it has ended.
    pub(crate) fn ended_ago(self) -> Option<Duration> {
        match self {
            Self::Active => None,
            Self::Done { ago } | Self::Failed { ago } => Some(ago),
        }
    }
}

impl Discovery {
    /// The servers that answer, with their answers.
    pub(crate) fn answering(&self) -> impl Iterator<Item = (Ipv4Addr, &ServerAnswer)> {
        self.servers.iter().filter_map(|server| Some((server.ip, server.answer.as_ref()?)))
    }

    pub(crate) fn answers(&self, ip: Ipv4Addr) -> bool {
        self.answering().any(|(at, _)| at == ip)
    }

    /// The server whose word counts most: one that leads, then one that hears a leader, then any that
    /// has a log at all.
    pub(crate) fn best(&self) -> Option<(Ipv4Addr, &ServerAnswer)> {
        self.answering().max_by_key(|(ip, answer)| {
            (answer.leader == Some(*ip), answer.leader.is_some(), !answer.voters.is_empty())
        })
    }
}
