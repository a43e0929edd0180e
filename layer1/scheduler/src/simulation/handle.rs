//! The world as schedulers see it. Each has a handle of its own, which may be paused in the middle of a
//! round.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use controller_api::{ExpandedFormation, Job, JobState, ScaleRequest, ScaleState, Volume};
use host_api::{ActiveJob, HostClient, JobStatus, VolumeInfo};
use kit_clock::{Mono, Wall};
use kit_ids::{HostId, JobId};
use kit_units::Millicpu;
use placement::{FormationKey, Policy, Reservation};
use tokio::sync::watch;

use super::world::{Fate, World};
use crate::cluster::{Away, Cluster, HostAnswer, HostSeen, Kept, Lookup, Made, NotAdded};
use crate::live;
use crate::round::Scheduler;

/// One scheduler's handle of the world.
#[derive(Clone, Debug)]
pub(super) struct Simulated {
    world: Arc<Mutex<World>>,
    turn: Arc<Mutex<Option<u64>>>,
    /// Calls left until this scheduler is paused; none when it is not to be.
    calls: Arc<watch::Sender<Option<u32>>>,
}

impl Simulated {
    pub(super) fn new(hosts: &[&str], wanted: u32, seed: u64) -> Self {
        Self::of(Arc::new(Mutex::new(World::new(hosts, wanted, seed))))
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
        self.controller(|world| world.volumes.values().cloned().collect()).await
    }
    async fn record_volume(&self, volume: &Volume) -> Result<(), Away> {
        let id = volume.id.as_ref().map(ToString::to_string).unwrap_or_default();
        self.controller(|world| drop(world.volumes.insert(id, volume.clone()))).await
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
            if job.config.volumes.iter().any(|bound| !machine.volumes.contains(&bound.volume)) {
                // It is taken, and fails when it is to be started.
                (active.status, active.ended_at) = (JobStatus::Failed, active.created_at);
            }
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
    async fn make_volume(&self, host: &HostSeen, volume: &VolumeInfo) -> Result<Made, Away> {
        let made = self.call(|world| {
            let machine = world.hosts.get_mut(&host.id).filter(|machine| !machine.silent)?;
            let is_new = machine.volumes.insert(volume.id.clone());
            Some(if is_new { Made::Now } else { Made::Before })
        });
        made.await?.ok_or_else(|| Away("silent".to_owned()))
    }
}
