//! Controller, discovery and hosts in one: what is there, what becomes of calls, and what happens by
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use controller_api::{Artifact, ExpandedFormation, Job, JobState, ScaleRequest, Volume};
use host_api::{ActiveJob, HostClient, JobStatus};
use kit_clock::Wall;
use kit_ids::{HostId, JobId};
use kit_units::Bytes;

use crate::cluster::Kept;
use crate::records;

const APP: &str = "0a000000-0000-4000-8000-000000000001";
const RELEASE: &str = "0b000000-0000-4000-8000-000000000001";

/// One host.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) jobs: BTreeMap<JobId, ActiveJob>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) draining: bool,
    /// Answers nobody.
    pub(super) silent: bool,
    /// Discovery lists it.
    pub(super) listed: bool,
    /// Says no to every job, with these words.
    pub(super) refuses: Option<String>,
    pub(super) memory: Bytes,
    /// By id.
    pub(super) volumes: BTreeSet<String>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            jobs: BTreeMap::new(),
            tags: BTreeMap::new(),
            draining: false,
            silent: false,
            listed: true,
            refuses: None,
            memory: Bytes::gib(8),
            volumes: BTreeSet::new(),
        }
    }
}

impl Machine {
    pub(super) fn alive(&self) -> usize {
        self.jobs.values().filter(|job| !job.status.has_ended()).count()
    }

    /// What its ledger says, as the real host's.
    pub(super) fn has_room(&self, job: &host_api::Job) -> bool {
        let alive = self.jobs.values().filter(|active| !active.status.has_ended());
        let reserved: u64 =
            alive.map(|active| records::reservation(&active.job.resources).memory.0).sum();
        reserved + records::reservation(&job.resources).memory.0 <= self.memory.0
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) wanted: u32,
    /// Tags that the formation asks of its hosts.
    pub(super) tags: BTreeMap<String, String>,
    /// The formation's jobs keep something.
    pub(super) keeps: bool,
    pub(super) volumes: BTreeMap<String, Volume>,
    pub(super) request: Option<ScaleRequest>,
    pub(super) recorded: BTreeMap<String, Job>,
    pub(super) hosts: BTreeMap<HostId, Machine>,
    seed: u64,
    /// Of a hundred calls, so many lose their request and as many their answer.
    pub(super) faults: u64,
    pub(super) stops_slowly: bool,
    /// One, two or three are wanted, changing all the time.
    pub(super) fickle: bool,
    /// Calls left until the scheduler dies.
    pub(super) life: Option<u32>,
    pub(super) controller_away: bool,
    pub(super) discovery_away: bool,
    /// Discovery answers and cannot write.
    pub(super) no_quorum: bool,
    pub(super) kept: Kept,
    /// Hosts that are servers, asked as real ones are.
    pub(super) served: BTreeMap<HostId, HostClient>,
    /// Who claimed last acts.
    pub(super) turn: u64,
    pub(super) at: u64,
    pub(super) most_alive: usize,
}

/// What becomes of a call.
pub(super) enum Fate {
    Fine,
    RequestLost,
    AnswerLost,
}

impl World {
    pub(super) fn new(hosts: &[&str], wanted: u32, seed: u64) -> Self {
        let hosts = hosts
            .iter()
            .map(|host| (host.parse().expect("a host id"), Machine::default()))
            .collect();
        Self {
            wanted,
            tags: BTreeMap::new(),
            keeps: false,
            volumes: BTreeMap::new(),
            request: None,
            recorded: BTreeMap::new(),
            hosts,
            seed,
            faults: 0,
            stops_slowly: false,
            fickle: false,
            life: None,
            controller_away: false,
            discovery_away: false,
            no_quorum: false,
            kept: Kept::default(),
            served: BTreeMap::new(),
            turn: 0,
            at: 1000,
            most_alive: 0,
        }
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.seed >> 33
    }

    pub(super) fn fate(&mut self) -> Fate {
        match &mut self.life {
            Some(0) => return Fate::RequestLost,
            Some(life) => *life -= 1,
            None => {}
        }
        match self.draw() % 100 {
            roll if roll < self.faults => Fate::RequestLost,
            roll if roll < 2 * self.faults => Fate::AnswerLost,
            _ => Fate::Fine,
        }
    }

    pub(super) fn alive(&self) -> usize {
        self.hosts.values().map(Machine::alive).sum()
    }

    /// Time passes on the hosts: what starts runs, what was told to stop ends sooner or later.
    pub(super) fn tick(&mut self) {
        self.at += 1;
        let at = Wall::from_epoch(Duration::from_secs(self.at));
        if self.fickle {
            self.wanted = 1 + u32::try_from(self.draw() % 3).unwrap_or_default();
        }
        let ends = !self.stops_slowly || self.draw().is_multiple_of(3);
        for active in self.hosts.values_mut().flat_map(|host| host.jobs.values_mut()) {
            if active.status.has_ended() {
                continue;
            }
            if active.force_stop && ends {
                (active.status, active.ended_at) = (JobStatus::Done, at.into());
            } else if active.status == JobStatus::Starting {
                (active.status, active.started_at) = (JobStatus::Running, at.into());
            }
        }
    }

    /// kill -9 of one running job.
    pub(super) fn crash_one(&mut self) {
        let at = Wall::from_epoch(Duration::from_secs(self.at));
        let running: Vec<JobId> = self
            .hosts
            .values()
            .flat_map(|host| host.jobs.iter().filter(|(_, job)| job.status == JobStatus::Running))
            .map(|(id, _)| id.clone())
            .collect();
        if running.is_empty() {
            return;
        }
        let pick = usize::try_from(self.draw()).unwrap_or_default() % running.len();
        for active in self.hosts.values_mut().filter_map(|host| host.jobs.get_mut(&running[pick])) {
            (active.status, active.ended_at, active.exit_status) =
                (JobStatus::Crashed, at.into(), Some(137));
        }
    }

    pub(super) fn host(&mut self, name: &str) -> &mut Machine {
        self.hosts.entry(name.parse().expect("a host id")).or_default()
    }

    /// The power is cut: nobody answers, and what ran is gone when somebody answers again.
    pub(super) fn cut_power(&mut self, name: &str) {
        let at = Wall::from_epoch(Duration::from_secs(self.at));
        let host = self.host(name);
        (host.silent, host.listed) = (true, false);
        for active in host.jobs.values_mut().filter(|active| !active.status.has_ended()) {
            (active.status, active.ended_at) = (JobStatus::Crashed, at.into());
        }
    }

    /// Another machine in its place: the same name, nothing on its disk.
    pub(super) fn replace(&mut self, name: &str) {
        *self.host(name) = Machine::default();
    }

    /// Nobody reaches it and it reaches nobody; what runs there runs on.
    pub(super) fn cut_off(&mut self, name: &str) {
        let host = self.host(name);
        (host.silent, host.listed) = (true, false);
    }

    pub(super) fn reconnect(&mut self, name: &str) {
        let host = self.host(name);
        (host.silent, host.listed) = (false, true);
    }

    /// Records of jobs that wait for a host: their reasons.
    pub(super) fn reasons(&self) -> Vec<String> {
        let waits = |job: &&Job| job.state == Some(JobState::Pending) && job.host_id.is_none();
        let waiting = self.recorded.values().filter(waits);
        waiting.map(|job| job.host_error.clone().unwrap_or_default()).collect()
    }

    pub(super) fn formation(&self) -> ExpandedFormation {
        let volumes = if self.keeps { r#","volumes":[{"path":"/data"}]"# } else { "" };
        let json = format!(
            r#"{{"app":{{"id":"{APP}","name":"demo"}},"release":{{"id":"{RELEASE}","app_id":"{APP}",
            "processes":{{"web":{{"args":["/bin/web"]{volumes}}}}}}},"processes":{{"web":{}}}}}"#,
            self.wanted
        );
        let mut formation: ExpandedFormation = serde_json::from_str(&json).expect("a formation");
        formation.artifacts = vec![artifact()];
        formation.pending_scale_request = self.request.clone();
        if !self.tags.is_empty() {
            formation.tags = [("web".to_owned(), self.tags.clone())].into();
        }
        formation
    }
}

fn artifact() -> Artifact {
    let json = r#"{"id":"0c000000-0000-4000-8000-000000000001","type":"flynn","uri":"http://h/m","manifest":
        {"_type":"application/vnd.flynn.image.manifest.v1+json","entrypoints":{"_default":{"args":["/bin/web"]}},
        "rootfs":[{"platform":{"architecture":"amd64","os":"linux"},"layers":[{"id":"aa","type":
        "application/vnd.flynn.image.squashfs.v1","length":1,"hashes":{"sha512_256":"aa"}}]}]},
        "layer_url_template":"http://h/{id}"}"#;
    serde_json::from_str(json).expect("an artifact")
}
