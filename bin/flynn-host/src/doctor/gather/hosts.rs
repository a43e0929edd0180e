//! One host's daemon: what it says of itself, its machine and its jobs.

use std::error::Error as _;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use controller_api::{META_APP_NAME, META_FORMATION, META_TYPE};
use host_api::{ActiveJob, HostClient, HostHealth, HostStatus, JobStatus, META_PREDECESSOR, Space};
use kit_http::ClientError;

use super::{brief, chain, ip_in};
use crate::doctor::facts::{HostAnswer, JobFacts, JobState, Machine, Silence};

/// The app whose jobs carry the cluster's key.
const CONTROLLER: &str = "controller";
const KEY: &str = "AUTH_KEY";

/// What came of asking one.
pub(super) type HostSeen = Result<Answering, Silence>;

/// A host that answers. Not printable: the key is a secret.
pub(super) struct Answering {
    pub(super) id: String,
    pub(super) answer: HostAnswer,
    /// The cluster's key, where a job of the controller is here.
    pub(super) controller_key: Option<String>,
}

impl Answering {
    /// The hosts it knows.
    pub(super) fn knows(&self) -> Vec<Ipv4Addr> {
        let machine = self.answer.machine.iter();
        machine.flat_map(|machine| machine.members.iter().copied()).collect()
    }
}

/// The addresses that a daemon names: its own, and those of the hosts it knows.
pub(super) async fn of_daemon(url: &str) -> Vec<Ipv4Addr> {
    let Ok(client) = brief(url).map(HostClient::from_client) else { return Vec::new() };
    let (status, health) = tokio::join!(client.status(), client.health());
    let own = status.ok().and_then(|status| ip_in(&status.url));
    own.into_iter().chain(health.into_iter().flat_map(|health| health.members)).collect()
}

/// Asks a host for everything at once.
pub(super) async fn ask(ip: Ipv4Addr, port: u16) -> HostSeen {
    let client = brief(&format!("http://{ip}:{port}")).map(HostClient::from_client);
    let client = client.map_err(|error| Silence::Away(error.to_string()))?;
    let (status, machine, jobs) = tokio::join!(client.status(), machine(&client), client.jobs());
    let status = status.map_err(|error| silence(&error))?;
    let (machine, now) = machine.unzip();
    let now = now.unwrap_or_else(Utc::now);
    let jobs: Vec<ActiveJob> = jobs.map(|jobs| jobs.into_values().collect()).unwrap_or_default();
    let controller_key = jobs.iter().find_map(key);
    let jobs = jobs.iter().map(|job| job_facts(job, now)).collect();
    Ok(answering(status, machine, jobs, controller_key))
}

fn answering(
    status: HostStatus,
    machine: Option<Machine>,
    jobs: Vec<JobFacts>,
    controller_key: Option<String>,
) -> Answering {
    let network = status.network.filter(|network| !network.subnet.is_empty());
    let answer = HostAnswer {
        version: status.version,
        draining: status.draining,
        subnet: network.map(|network| network.subnet),
        jobs,
        machine,
    };
    Answering { id: status.id.to_string(), answer, controller_key }
}

fn silence(error: &ClientError) -> Silence {
    let mut cause = error.source();
    while let Some(error) = cause {
        let refused = error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if refused {
            return Silence::NoDaemon;
        }
        cause = error.source();
    }
    Silence::Away(chain(error))
}

/// Its machine, and its time when it answered.
async fn machine(client: &HostClient) -> Option<(Machine, DateTime<Utc>)> {
    let asked = Utc::now();
    let health = client.health().await.ok()?;
    let answered = Utc::now();
    let trip = (answered - asked).num_milliseconds().max(0);
    let ahead = (health.now.0 - asked).num_milliseconds().saturating_sub(trip / 2);
    let now = health.now.0;
    Some((of_health(health, (ahead, trip.unsigned_abs() / 2)), now))
}

fn of_health(health: HostHealth, clock: (i64, u64)) -> Machine {
    let pair = |space: Space| (space.free, space.total);
    Machine {
        data_dir: health.data_dir,
        disk: pair(health.disk),
        memory: pair(health.memory),
        clock,
        members: health.members.into_iter().collect(),
    }
}

fn key(active: &ActiveJob) -> Option<String> {
    let of_controller = active.job.meta(META_APP_NAME) == Some(CONTROLLER);
    let keys = active.job.config.env.get(KEY).filter(|_| of_controller)?;
    // While keys are changed there are several; any of them does.
    keys.split(',').map(str::to_owned).find(|key| !key.is_empty())
}

fn job_facts(active: &ActiveJob, now: DateTime<Utc>) -> JobFacts {
    let meta = |name| active.job.meta(name).unwrap_or_default().to_owned();
    let ago = (now - active.ended_at.0).to_std().unwrap_or_default();
    let state = match active.status {
        JobStatus::Starting | JobStatus::Running => JobState::Active,
        JobStatus::Done => JobState::Done { ago },
        JobStatus::Crashed | JobStatus::Failed => JobState::Failed { ago },
    };
    let ran = active.ended_at.0 - active.started_at.0;
    let never_ran = active.started_at.is_zero();
    let ran_for = if never_ran { Duration::ZERO } else { ran.to_std().unwrap_or_default() };
    JobFacts {
        id: active.job.id.to_string(),
        app: meta(META_APP_NAME),
        process: meta(META_TYPE),
        state,
        resurrect: active.job.resurrect,
        kept: active.job.resurrect || active.job.meta(META_FORMATION) == Some("true"),
        stopped: active.force_stop,
        ran_for,
        predecessor: active.job.meta(META_PREDECESSOR).map(str::to_owned),
        error: active.error.clone(),
    }
}
