//! Controller, discovery and hosts in one, as schedulers see them. Each scheduler has a handle of its
//! own, which may be paused in the middle of a round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use controller_api::{
    Artifact, ExpandedFormation, Job, JobState, ScaleRequest, ScaleState, Volume,
};
use host_api::{ActiveJob, HostClient, JobStatus, VolumeInfo};
use kit_clock::{Mono, Wall};
use kit_ids::{HostId, JobId};
use kit_units::{Bytes, Millicpu};
use placement::{FormationKey, Policy, Reservation};
use tokio::sync::watch;

use crate::cluster::{Away, Cluster, HostAnswer, HostSeen, Kept, Lookup, NotAdded};
use crate::round::Scheduler;
use crate::{live, records};

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
        }
    }
}

impl Machine {
    pub(super) fn alive(&self) -> usize {
        self.jobs.values().filter(|job| !job.status.has_ended()).count()
    }

    /// What its ledger says, as the real host's.
    fn has_room(&self, job: &host_api::Job) -> bool {
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
    turn: u64,
    pub(super) at: u64,
    pub(super) most_alive: usize,
}

/// One scheduler's handle of the world.
#[derive(Clone, Debug)]
pub(super) struct Simulated {
    world: Arc<Mutex<World>>,
    turn: Arc<Mutex<Option<u64>>>,
    /// Calls left until this scheduler is paused; none when it is not to be.
    calls: Arc<watch::Sender<Option<u32>>>,
}

enum Fate {
    Fine,
    RequestLost,
    AnswerLost,
}

impl World {
    pub(super) fn draw(&mut self) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.seed >> 33
    }

    fn fate(&mut self) -> Fate {
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

    fn formation(&self) -> ExpandedFormation {
        let json = format!(
            r#"{{"app":{{"id":"{APP}","name":"demo"}},"release":{{"id":"{RELEASE}","app_id":"{APP}",
            "processes":{{"web":{{"args":["/bin/web"]}}}}}},"processes":{{"web":{}}}}}"#,
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

impl Simulated {
    pub(super) fn new(hosts: &[&str], wanted: u32, seed: u64) -> Self {
        let hosts = hosts
            .iter()
            .map(|host| (host.parse().expect("a host id"), Machine::default()))
            .collect();
        let world = World {
            wanted,
            tags: BTreeMap::new(),
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
        };
        Self::of(Arc::new(Mutex::new(world)))
    }

    fn of(world: Arc<Mutex<World>>) -> Self {
        Self { world, turn: Arc::default(), calls: Arc::new(watch::Sender::new(None)) }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn served(&self, host: &HostId) -> Option<HostClient> {
        self.world().served.get(host).cloned()
    }

    /// Pauses this handle's scheduler after so many further calls, or lets it go on.
    pub(super) fn pause_after(&self, calls: Option<u32>) {
        self.calls.send_replace(calls);
    }

    pub(super) fn is_paused(&self) -> bool {
        *self.calls.borrow() == Some(0)
    }

    /// One call: it may fail before or after it had its effect.
    async fn call<T>(&self, effect: impl FnOnce(&mut World) -> T + Send) -> Result<T, Away> {
        let mut calls = self.calls.subscribe();
        // The sender lives as long as the handle.
        drop(calls.wait_for(|calls| *calls != Some(0)).await);
        self.calls.send_if_modified(|calls| {
            *calls = calls.map(|calls| calls.saturating_sub(1));
            false
        });
        let mut world = self.world();
        match world.fate() {
            Fate::RequestLost => Err(Away("request lost".to_owned())),
            Fate::AnswerLost => {
                effect(&mut world);
                Err(Away("answer lost".to_owned()))
            }
            Fate::Fine => Ok(effect(&mut world)),
        }
    }

    /// A call to the controller.
    async fn controller<T>(&self, effect: impl FnOnce(&mut World) -> T + Send) -> Result<T, Away> {
        if self.world().controller_away {
            return Err(Away("the controller is away".to_owned()));
        }
        self.call(effect).await
    }

    /// A call to discovery.
    async fn discovery<T>(&self, effect: impl FnOnce(&mut World) -> T + Send) -> Result<T, Away> {
        if self.world().discovery_away {
            return Err(Away("discovery is away".to_owned()));
        }
        self.call(effect).await
    }

    /// One round of a scheduler, and one second.
    pub(super) async fn round(&self, scheduler: &mut Scheduler<Self>) {
        let at = Duration::from_secs(self.world().at);
        // A round that is not possible is tried again.
        drop(scheduler.round(Mono::from_origin(at), Wall::from_epoch(at)).await);
        let mut world = self.world();
        world.most_alive = world.most_alive.max(world.alive());
        world.tick();
    }

    /// Lets a scheduler go round until `rounds` are over, one second each.
    pub(super) async fn run(&self, scheduler: &mut Scheduler<Self>, rounds: u32) {
        for _ in 0..rounds {
            self.round(scheduler).await;
        }
    }

    /// A new scheduler of the same world.
    pub(super) fn scheduler(&self) -> Scheduler<Self> {
        let policy = Policy { lost_after: Duration::from_secs(30), ..Policy::default() };
        Scheduler::new(Arc::new(Self::of(self.world.clone())), policy)
    }
}

impl Cluster for Simulated {
    async fn claim(&self) -> Result<bool, Away> {
        let has_turn = || self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if has_turn().is_some() {
            return Ok(false);
        }
        let turn = self
            .controller(|world| {
                world.turn += 1;
                world.turn
            })
            .await?;
        *has_turn() = Some(turn);
        Ok(true)
    }
    fn fresh_name(&self) -> uuid::Uuid {
        let mut world = self.world();
        let halves = [world.draw(), world.draw(), world.draw(), world.draw()];
        let number = halves.iter().fold(0, |sum, half| (sum << 31) ^ u128::from(*half));
        uuid::Builder::from_random_bytes(number.to_be_bytes()).into_uuid()
    }
    async fn formations(&self) -> Result<Vec<ExpandedFormation>, Away> {
        self.controller(|world| if world.wanted > 0 { vec![world.formation()] } else { vec![] })
            .await
    }
    async fn formation(&self, _key: &FormationKey) -> Result<Lookup, Away> {
        self.controller(|world| Lookup::Found(Box::new(world.formation()))).await
    }
    async fn recorded(&self) -> Result<Vec<Job>, Away> {
        self.controller(|world| {
            let active = |job: &&Job| job.state.is_some_and(JobState::is_active);
            world.recorded.values().filter(active).cloned().collect()
        })
        .await
    }
    async fn record(&self, job: &Job) -> Result<(), Away> {
        let turn = *self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let uuid = job.uuid.as_ref().map(ToString::to_string).unwrap_or_default();
        let recorded = self
            .controller(|world| {
                let is_latest = turn == Some(world.turn);
                if is_latest {
                    world.recorded.insert(uuid, job.clone());
                }
                is_latest
            })
            .await?;
        if recorded {
            return Ok(());
        }
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Err(Away("another scheduler acts".to_owned()))
    }
    async fn volumes(&self) -> Result<Vec<Volume>, Away> {
        self.controller(|_| Vec::new()).await
    }
    async fn record_volume(&self, _volume: &Volume) -> Result<(), Away> {
        self.controller(|_| ()).await
    }
    async fn complete(&self, _key: &FormationKey, request: &ScaleRequest) -> Result<(), Away> {
        assert_eq!(request.state, Some(ScaleState::Complete));
        self.controller(|world| world.request = None).await
    }
    async fn hosts(&self) -> Result<Vec<HostSeen>, Away> {
        self.discovery(|world| {
            let listed = world.hosts.iter().filter(|(_, host)| host.listed);
            let seen = listed.map(|(id, host)| HostSeen {
                id: id.clone(),
                url: "http://h".into(),
                tags: host.tags.clone(),
                draining: host.draining,
            });
            seen.collect()
        })
        .await
    }
    async fn kept(&self) -> Result<Kept, Away> {
        self.discovery(|world| world.kept.clone()).await
    }
    async fn keep(&self, kept: &Kept) -> Result<u64, Away> {
        let written = self.discovery(|world| {
            if world.no_quorum {
                return Err(Away("no quorum".to_owned()));
            }
            if world.kept.index != kept.index {
                return Err(Away("somebody else was faster".to_owned()));
            }
            world.kept = Kept { index: kept.index + 1, hosts: kept.hosts.clone() };
            Ok(kept.index + 1)
        });
        written.await?
    }
    async fn ask(&self, host: &HostSeen) -> Result<HostAnswer, Away> {
        if let Some(client) = self.served(&host.id) {
            return live::ask(&client).await;
        }
        let answer = self.call(|world| {
            let machine = world.hosts.get(&host.id).filter(|machine| !machine.silent)?;
            let capacity = Reservation { memory: machine.memory, cpu: Millicpu(80_000) };
            Some(HostAnswer { capacity, jobs: machine.jobs.values().cloned().collect() })
        });
        let answer = answer.await?.filter(|_| !host.url.is_empty());
        answer.ok_or_else(|| Away("silent".to_owned()))
    }
    async fn answering(&self, _service: &str) -> Result<BTreeSet<JobId>, Away> {
        self.discovery(|_| BTreeSet::new()).await
    }
    async fn add(&self, host: &HostSeen, job: &host_api::Job) -> Result<(), NotAdded> {
        if let Some(client) = self.served(&host.id) {
            return live::give(&client, job).await;
        }
        let (at, id) = (self.world().at, job.id.clone());
        let added = self.call(|world| {
            let Some(machine) = world.hosts.get_mut(&host.id).filter(|machine| !machine.silent)
            else {
                return Err(NotAdded::Away(Away("silent".to_owned())));
            };
            if machine.jobs.contains_key(&id) {
                return Ok(());
            }
            if let Some(why) = &machine.refuses {
                return Err(NotAdded::Refused(why.clone()));
            }
            if !machine.has_room(job) {
                return Err(NotAdded::Refused("not enough memory".to_owned()));
            }
            let json = format!(
                r#"{{"job":{},"host_id":"{}"}}"#,
                serde_json::to_string(job).expect("a job"),
                host.id
            );
            let mut active: ActiveJob = serde_json::from_str(&json).expect("an active job");
            active.created_at = Wall::from_epoch(Duration::from_secs(at)).into();
            machine.jobs.insert(id, active);
            Ok(())
        });
        added.await.unwrap_or_else(|away| Err(NotAdded::Away(away)))
    }
    async fn stop(&self, host: &HostSeen, job: &JobId) -> Result<(), Away> {
        if let Some(client) = self.served(&host.id) {
            return client.stop_job(job).await.map_err(|error| Away(error.to_string()));
        }
        self.call(|world| {
            let machine = world.hosts.get_mut(&host.id).filter(|machine| !machine.silent);
            if let Some(active) = machine.and_then(|machine| machine.jobs.get_mut(job)) {
                active.force_stop = true;
            }
        })
        .await
    }
    async fn make_volume(&self, _host: &HostSeen, _volume: &VolumeInfo) -> Result<(), Away> {
        self.call(|_| ()).await
    }
}
