//! The scheduler against a simulated cluster: requests get lost, answers get lost, jobs crash, and the
//! scheduler dies between any two of its calls. All randomness follows from a seed, the names of new
//! jobs too; a failure prints it, and `SEED=159 cargo test -p scheduler whatever` replays it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use controller_api::{
    Artifact, ExpandedFormation, Job, JobState, ScaleRequest, ScaleState, Volume,
};
use host_api::{ActiveJob, JobStatus, VolumeInfo};
use kit_clock::{Mono, Wall};
use kit_ids::{HostId, JobId};
use kit_units::{Bytes, Millicpu};
use placement::{FormationKey, Policy, Reservation};

use crate::cluster::{Away, Cluster, HostAnswer, HostSeen, Lookup, NotAdded};
use crate::records;
use crate::round::Scheduler;

const APP: &str = "0a000000-0000-4000-8000-000000000001";
const RELEASE: &str = "0b000000-0000-4000-8000-000000000001";

/// How many runs of everything that can go wrong.
const SEEDS: u64 = 300;

/// Controller, discovery and hosts in one.
#[derive(Debug, Default)]
struct World {
    wanted: u32,
    request: Option<ScaleRequest>,
    recorded: BTreeMap<String, Job>,
    hosts: BTreeMap<HostId, BTreeMap<JobId, ActiveJob>>,
    silent: BTreeSet<HostId>,
    refusing: BTreeSet<HostId>,
    seed: u64,
    /// Of a hundred calls, so many lose their request and as many their answer.
    faults: u64,
    stops_slowly: bool,
    /// One, two or three are wanted, changing all the time.
    fickle: bool,
    /// Calls left until the scheduler dies.
    life: Option<u32>,
    at: u64,
    most_alive: usize,
}

#[derive(Clone, Debug)]
struct Simulated(Arc<Mutex<World>>);

enum Fate {
    Fine,
    RequestLost,
    AnswerLost,
}

impl World {
    fn draw(&mut self) -> u64 {
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

    fn alive(&self) -> usize {
        self.hosts.values().flat_map(BTreeMap::values).filter(|job| !job.status.has_ended()).count()
    }

    /// Time passes on the hosts: what starts runs, what was told to stop ends sooner or later.
    fn tick(&mut self) {
        self.at += 1;
        let at = Wall::from_epoch(Duration::from_secs(self.at));
        if self.fickle {
            self.wanted = 1 + u32::try_from(self.draw() % 3).unwrap_or_default();
        }
        let ends = !self.stops_slowly || self.draw().is_multiple_of(3);
        for active in self.hosts.values_mut().flat_map(BTreeMap::values_mut) {
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
    fn crash_one(&mut self) {
        let at = Wall::from_epoch(Duration::from_secs(self.at));
        let running: Vec<JobId> = self
            .hosts
            .values()
            .flat_map(|jobs| jobs.iter().filter(|(_, job)| job.status == JobStatus::Running))
            .map(|(id, _)| id.clone())
            .collect();
        if running.is_empty() {
            return;
        }
        let pick = usize::try_from(self.draw()).unwrap_or_default() % running.len();
        for active in self.hosts.values_mut().filter_map(|jobs| jobs.get_mut(&running[pick])) {
            (active.status, active.ended_at, active.exit_status) =
                (JobStatus::Crashed, at.into(), Some(137));
        }
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
    fn new(hosts: &[&str], wanted: u32, seed: u64) -> Self {
        let hosts =
            hosts.iter().map(|host| (host.parse().expect("a host id"), BTreeMap::new())).collect();
        Self(Arc::new(Mutex::new(World { hosts, wanted, seed, at: 1000, ..World::default() })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call: it may fail before or after it had its effect.
    fn call<T>(&self, effect: impl FnOnce(&mut World) -> T) -> Result<T, Away> {
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

    /// Lets a scheduler go round until `rounds` are over, one second each.
    async fn run(&self, scheduler: &mut Scheduler<Self>, rounds: u32) {
        for _ in 0..rounds {
            let at = self.world().at;
            let (now, wall) = (
                Mono::from_origin(Duration::from_secs(at)),
                Wall::from_epoch(Duration::from_secs(at)),
            );
            let _ = scheduler.round(now, wall).await;
            let mut world = self.world();
            world.most_alive = world.most_alive.max(world.alive());
            world.tick();
        }
    }

    fn scheduler(&self) -> Scheduler<Self> {
        Scheduler::new(Arc::new(self.clone()), Policy::default())
    }
}

impl Cluster for Simulated {
    fn fresh_name(&self) -> uuid::Uuid {
        let mut world = self.world();
        let halves = [world.draw(), world.draw(), world.draw(), world.draw()];
        let number = halves.iter().fold(0, |sum, half| (sum << 31) ^ u128::from(*half));
        uuid::Builder::from_random_bytes(number.to_be_bytes()).into_uuid()
    }
    async fn formations(&self) -> Result<Vec<ExpandedFormation>, Away> {
        self.call(|world| if world.wanted > 0 { vec![world.formation()] } else { vec![] })
    }
    async fn formation(&self, _key: &FormationKey) -> Result<Lookup, Away> {
        self.call(|world| Lookup::Found(Box::new(world.formation())))
    }
    async fn recorded(&self) -> Result<Vec<Job>, Away> {
        self.call(|world| {
            let active = |job: &&Job| job.state.is_some_and(JobState::is_active);
            world.recorded.values().filter(active).cloned().collect()
        })
    }
    async fn record(&self, job: &Job) -> Result<(), Away> {
        self.call(|world| {
            let uuid = job.uuid.as_ref().map(ToString::to_string).unwrap_or_default();
            world.recorded.insert(uuid, job.clone());
        })
    }
    async fn volumes(&self) -> Result<Vec<Volume>, Away> {
        self.call(|_| Vec::new())
    }
    async fn record_volume(&self, _volume: &Volume) -> Result<(), Away> {
        self.call(|_| ())
    }
    async fn complete(&self, _key: &FormationKey, request: &ScaleRequest) -> Result<(), Away> {
        assert_eq!(request.state, Some(ScaleState::Complete));
        self.call(|world| world.request = None)
    }
    async fn hosts(&self) -> Result<Vec<HostSeen>, Away> {
        self.call(|world| {
            let seen = |id: &HostId| HostSeen {
                id: id.clone(),
                url: "http://h".into(),
                tags: BTreeMap::new(),
                draining: false,
            };
            world.hosts.keys().map(seen).collect()
        })
    }
    async fn ask(&self, host: &HostSeen) -> Result<HostAnswer, Away> {
        let capacity = Reservation { memory: Bytes::gib(8), cpu: Millicpu(8000) };
        let answer = self.call(|world| {
            let silent = world.silent.contains(&host.id);
            (!silent).then(|| world.hosts[&host.id].values().cloned().collect())
        })?;
        answer.map(|jobs| HostAnswer { capacity, jobs }).ok_or_else(|| Away("silent".to_owned()))
    }
    async fn answering(&self, _service: &str) -> Result<BTreeSet<JobId>, Away> {
        self.call(|_| BTreeSet::new())
    }
    async fn add(&self, host: &HostSeen, job: &host_api::Job) -> Result<(), NotAdded> {
        let (at, id) = (self.world().at, job.id.clone());
        let added = self.call(|world| {
            if world.silent.contains(&host.id) {
                return Err(NotAdded::Away(Away("silent".to_owned())));
            }
            if world.refusing.contains(&host.id) {
                return Err(NotAdded::Refused("memory: no room".to_owned()));
            }
            let json = format!(
                r#"{{"job":{},"host_id":"{}"}}"#,
                serde_json::to_string(job).expect("a job"),
                host.id
            );
            let mut active: ActiveJob = serde_json::from_str(&json).expect("an active job");
            active.created_at = Wall::from_epoch(Duration::from_secs(at)).into();
            let jobs = world.hosts.get_mut(&host.id).expect("a known host");
            // That it is there already is success.
            jobs.entry(id).or_insert(active);
            Ok(())
        });
        added.unwrap_or_else(|away| Err(NotAdded::Away(away)))
    }
    async fn stop(&self, host: &HostSeen, job: &JobId) -> Result<(), Away> {
        self.call(|world| {
            if let Some(active) = world.hosts.get_mut(&host.id).and_then(|jobs| jobs.get_mut(job)) {
                active.force_stop = true;
            }
        })
    }
    async fn make_volume(&self, _host: &HostSeen, _volume: &VolumeInfo) -> Result<(), Away> {
        self.call(|_| ())
    }
}

#[tokio::test]
async fn three_are_started_and_the_request_is_fulfilled() {
    let cluster = Simulated::new(&["a", "b", "c"], 3, 1);
    cluster.world().request = Some(ScaleRequest::default());
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 4).await;
    let world = cluster.world();
    assert!(world.hosts.values().all(|jobs| jobs.len() == 1), "one on each host");
    assert!(
        world
            .recorded
            .values()
            .all(|job| job.state == Some(JobState::Up) && records::id_of(job).is_some())
    );
    assert_eq!(world.request, None);
}

#[tokio::test]
async fn whatever_is_killed_there_are_three_again_and_never_four() {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seeds =
        std::env::var("SEEDS").map_or(SEEDS, |count| count.parse().expect("SEEDS is a number"));
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        never_more_than_wanted(seed).await;
    }
}

/// Seeds with which there were more than three before a stopping job kept its place: 22 and 159 when
/// jobs had names of chance, which no seed replays, the others with names from the seed.
#[tokio::test]
async fn seeds_that_failed_once_do_not_fail_again() {
    for seed in [1, 22, 25, 159, 204] {
        never_more_than_wanted(seed).await;
    }
}

/// Jobs crash and stop slowly, calls get lost, fewer are wanted and then more again, and the scheduler is
/// killed in the middle of rounds and replaced.
///
/// Promised, at every moment and not only in the end: never more run than were ever wanted. A job that
/// was recorded may run, and one that was told to stop may still run; both keep their place until their
/// host says that they ended. Not promised, and not tried here: while two schedulers act at once, when
/// a host was lost and lives on with its jobs, and while a host drains or lost a tag, where the
/// replacement runs before the job is stopped. There a later round, once all hosts answer, stops what is
/// too many.
async fn never_more_than_wanted(seed: u64) {
    let cluster = Simulated::new(&["a", "b", "c"], 3, seed);
    {
        let mut world = cluster.world();
        (world.faults, world.stops_slowly, world.fickle) =
            (seed % 15, seed % 2 == 1, seed % 3 == 1);
    }
    for _ in 0..6 {
        let life = {
            let mut world = cluster.world();
            world.crash_one();
            u32::try_from(world.draw() % 40).unwrap_or_default()
        };
        cluster.world().life = Some(life);
        let mut doomed = cluster.scheduler();
        cluster.run(&mut doomed, 5).await;
        cluster.world().life = None;
        let mut next = cluster.scheduler();
        cluster.run(&mut next, 3).await;
    }
    {
        let mut world = cluster.world();
        (world.faults, world.fickle, world.wanted) = (0, false, 3);
        assert!(world.most_alive <= 3, "seed={seed}: {} at a time", world.most_alive);
    }
    let mut last = cluster.scheduler();
    // Long enough for the longest pause of a job that kept ending.
    cluster.run(&mut last, 60).await;
    let world = cluster.world();
    assert_eq!(world.alive(), 3, "seed={seed}");
    assert!(world.most_alive <= 3, "seed={seed}");
    let up =
        world.recorded.values().filter(|job| job.state.is_some_and(JobState::is_active)).count();
    assert_eq!(up, 3, "seed={seed}: the controller knows what runs");
}

#[tokio::test]
async fn a_host_that_refuses_is_not_insisted_on() {
    let cluster = Simulated::new(&["a", "b"], 4, 7);
    cluster.world().refusing.insert("a".parse().expect("a host id"));
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 8).await;
    let world = cluster.world();
    let counts: Vec<usize> = world.hosts.values().map(BTreeMap::len).collect();
    assert_eq!(counts, [0, 4]);
    let failed = world
        .recorded
        .values()
        .find(|job| job.host_error.is_some())
        .expect("a record of the refusal");
    assert_eq!(
        (failed.state, failed.host_error.as_deref()),
        (Some(JobState::Down), Some("memory: no room"))
    );
}

#[tokio::test]
async fn a_lost_hosts_jobs_are_started_elsewhere_and_given_up_when_it_returns() {
    let cluster = Simulated::new(&["a", "b"], 2, 3);
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    let a: HostId = "a".parse().expect("a host id");
    cluster.world().silent.insert(a.clone());
    cluster.run(&mut scheduler, 30).await;
    assert_eq!(cluster.world().alive(), 2, "a host that is silent for a moment keeps its jobs");
    cluster.run(&mut scheduler, 40).await;
    assert_eq!(cluster.world().hosts[&"b".parse::<HostId>().expect("a host id")].len(), 2);
    cluster.world().silent.remove(&a);
    cluster.run(&mut scheduler, 5).await;
    assert_eq!(cluster.world().alive(), 2);
}

#[tokio::test]
async fn scaled_to_zero_everything_stops() {
    let cluster = Simulated::new(&["a", "b"], 3, 9);
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    {
        let mut world = cluster.world();
        (world.wanted, world.request) = (0, Some(ScaleRequest::default()));
    }
    // A scheduler that was started since, and never saw the formation active.
    let mut other = cluster.scheduler();
    cluster.run(&mut other, 4).await;
    let world = cluster.world();
    assert_eq!((world.alive(), &world.request), (0, &None));
    assert!(world.recorded.values().all(|job| job.state == Some(JobState::Down)));
}
