//! The jobs of this host: what is known of each, what is reserved, who waits for what. Every change is
//! on disk before anybody hears of it. It starts and stops nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use host_api::{ActiveJob, Event, EventKind, Job, JobStatus, Timestamp};
use host_job::{
    Change, Ended, KEPT_PER_APP, Ledger, Life, Refused, Reservation, Status, evictions,
};
use kit_clock::Clock;
use kit_ids::{HostId, JobId};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, broadcast, watch};

use crate::store::{JOBS, OLD_JOBS, Store, StoreError};

/// Events a slow subscriber may be behind before its stream ends with an error.
const EVENT_QUEUE: usize = 1024;

/// How far a job has come, for those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Its container is being made.
    Preparing,
    /// Its program waits for its attachers.
    Ready,
    /// Its program runs.
    Running,
    /// It ended.
    Ended,
    /// What it had is released.
    Cleaned,
}

/// What is stored of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What the wire shows.
    pub(crate) active: ActiveJob,
    /// How many predecessors ended soon after their start.
    #[serde(default)]
    pub(crate) quick_ends: u32,
    /// Everything it had is released.
    #[serde(default)]
    pub(crate) cleaned: bool,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    phase: watch::Sender<Phase>,
}

#[derive(Debug)]
struct Inner {
    jobs: BTreeMap<JobId, Entry>,
    ledger: Ledger,
}

/// All jobs of the host.
#[derive(Debug)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    store: Store,
    host: HostId,
    clock: Arc<dyn Clock>,
    events: broadcast::Sender<Event>,
    /// Counts additions and changes, for those who wait for one.
    changed: watch::Sender<u64>,
}

/// Why a job is not added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddError {
    #[error("job already exists")]
    Exists,
    #[error("volumes in use: {0}")]
    VolumesInUse(String),
    #[error(transparent)]
    NoRoom(#[from] Refused),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Registry {
    /// Reads what an earlier daemon knew. Nothing is reserved yet: see [`adopt`](Self::adopt).
    pub(crate) fn open(
        store: Store,
        host: HostId,
        capacity: Reservation,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let mut jobs = BTreeMap::new();
        for (id, record) in store.all::<Record>(JOBS)? {
            let Ok(id) = id.parse::<JobId>() else { continue };
            let phase = watch::Sender::new(phase_of(&record));
            jobs.insert(id, Entry { record, phase });
        }
        let inner = Mutex::new(Inner { jobs, ledger: Ledger::new(capacity) });
        let (events, changed) = (broadcast::Sender::new(EVENT_QUEUE), watch::Sender::new(0));
        Ok(Self { inner, store, host, clock, events, changed })
    }

    /// Adds a job: reserves, stores, tells.
    pub(crate) async fn add(
        &self,
        job: Job,
        wanted: Reservation,
        quick_ends: u32,
    ) -> Result<(), AddError> {
        let mut inner = self.inner.lock().await;
        let id = job.id.clone();
        if inner.jobs.contains_key(&id)
            || self.store.get::<Record>(OLD_JOBS, id.as_str())?.is_some()
        {
            return Err(AddError::Exists);
        }
        let conflicts = volume_conflicts(&inner, &job);
        if !conflicts.is_empty() {
            return Err(AddError::VolumesInUse(conflicts.join(", ")));
        }
        inner.ledger.reserve(&id, wanted)?;
        let active = new_job(job, &self.host, self.now());
        let record = Record { active, quick_ends, cleaned: false };
        if let Err(error) = self.store.put(JOBS, id.as_str(), &record).await {
            inner.ledger.release(&id);
            return Err(error.into());
        }
        self.tell(EventKind::Create, &record.active);
        inner.jobs.insert(id, Entry { record, phase: watch::Sender::new(Phase::Preparing) });
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Notes what a job that runs already has, after a restart of the daemon.
    pub(crate) async fn adopt(&self, id: &JobId, has: Reservation) {
        self.inner.lock().await.ledger.adopt(id, has);
    }

    /// What happened to a job: stored, then told. Nothing when it changes nothing.
    pub(crate) async fn apply(
        &self,
        id: &JobId,
        event: host_job::Event,
    ) -> Result<Change, StoreError> {
        let mut inner = self.inner.lock().await;
        let Inner { jobs, ledger } = &mut *inner;
        let Some(entry) = jobs.get_mut(id) else { return Ok(Change::Nothing) };
        let mut life = life_of(&entry.record.active);
        let change = life.handle(event, self.clock.wall());
        if change == Change::Nothing {
            return Ok(change);
        }
        let mut record = entry.record.clone();
        write_life(&mut record.active, &life);
        self.store.put(JOBS, id.as_str(), &record).await?;
        entry.record = record;
        if life.status.has_ended() {
            ledger.release(id);
        }
        let told = match change {
            Change::Nothing | Change::StopNoted => None,
            Change::Started => Some(EventKind::Start),
            Change::Stopped => Some(EventKind::Stop),
            Change::Failed => Some(EventKind::Error),
        };
        if let Some(kind) = told {
            self.tell(kind, &entry.record.active);
        }
        raise(&entry.phase, phase_of(&entry.record));
        self.changed.send_modify(|count| *count += 1);
        Ok(change)
    }

    /// Changes what the wire shows of a job, such as its address.
    pub(crate) async fn update(
        &self,
        id: &JobId,
        change: impl FnOnce(&mut ActiveJob) + Send,
    ) -> Result<(), StoreError> {
        let mut inner = self.inner.lock().await;
        let Some(entry) = inner.jobs.get_mut(id) else { return Ok(()) };
        let mut record = entry.record.clone();
        change(&mut record.active);
        self.store.put(JOBS, id.as_str(), &record).await?;
        entry.record = record;
        Ok(())
    }

    /// The job's program waits to be started.
    pub(crate) async fn ready(&self, id: &JobId) {
        if let Some(entry) = self.inner.lock().await.jobs.get(id) {
            raise(&entry.phase, Phase::Ready);
        }
    }

    /// Everything the job had is released; told unless it had nothing. Old jobs of its app leave the
    /// list.
    pub(crate) async fn cleaned(&self, id: &JobId, silent: bool) -> Result<(), StoreError> {
        let mut inner = self.inner.lock().await;
        if let Some(entry) = inner.jobs.get_mut(id) {
            let record = Record { cleaned: true, ..entry.record.clone() };
            self.store.put(JOBS, id.as_str(), &record).await?;
            entry.record = record;
            if !silent {
                self.tell(EventKind::Cleanup, &entry.record.active);
            }
            raise(&entry.phase, Phase::Cleaned);
        }
        self.evict(&mut inner).await
    }

    async fn evict(&self, inner: &mut Inner) -> Result<(), StoreError> {
        let ended =
            inner.jobs.iter().filter(|(_, entry)| entry.record.cleaned).map(|(id, entry)| {
                let active = &entry.record.active;
                let app = active.job.config.env.get("FLYNN_APP_ID").cloned().unwrap_or_default();
                Ended { job: id.clone(), app, at: active.ended_at.wall().unwrap_or_default() }
            });
        for id in evictions(&ended.collect::<Vec<_>>(), KEPT_PER_APP) {
            if let Some(entry) = inner.jobs.get(&id) {
                self.store.move_to((JOBS, OLD_JOBS), id.as_str(), &entry.record).await?;
                inner.jobs.remove(&id);
            }
        }
        Ok(())
    }

    /// A job, also one that left the list.
    pub(crate) async fn get(&self, id: &JobId) -> Result<Option<Record>, StoreError> {
        if let Some(entry) = self.inner.lock().await.jobs.get(id) {
            return Ok(Some(entry.record.clone()));
        }
        self.store.get(OLD_JOBS, id.as_str())
    }

    /// All listed jobs.
    pub(crate) async fn list(&self) -> Vec<Record> {
        self.inner.lock().await.jobs.values().map(|entry| entry.record.clone()).collect()
    }

    /// How far a listed job has come.
    pub(crate) async fn phase(&self, id: &JobId) -> Option<watch::Receiver<Phase>> {
        self.inner.lock().await.jobs.get(id).map(|entry| entry.phase.subscribe())
    }

    /// What is reserved of what, and the generation.
    pub(crate) async fn reservations(&self) -> (Reservation, Reservation, u64) {
        let inner = self.inner.lock().await;
        (inner.ledger.capacity(), inner.ledger.reserved(), inner.ledger.generation())
    }

    /// Events from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Changes when a job is added or something happens to one.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Resolves once somebody asked for the job's end.
    pub(crate) async fn stop_requested(&self, id: &JobId) {
        let mut changes = self.changes();
        loop {
            let asked = self
                .inner
                .lock()
                .await
                .jobs
                .get(id)
                .is_none_or(|entry| entry.record.active.force_stop);
            if asked || changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from(self.clock.wall())
    }

    fn tell(&self, event: EventKind, active: &ActiveJob) {
        let told = Event { event, job_id: active.job.id.clone(), job: Some(active.clone()) };
        // Nobody listening is no failure.
        drop(self.events.send(told));
    }
}

/// A phase only grows.
fn raise(phase: &watch::Sender<Phase>, to: Phase) {
    phase.send_if_modified(|phase| {
        let grows = to > *phase;
        *phase = to.max(*phase);
        grows
    });
}

fn phase_of(record: &Record) -> Phase {
    match record.active.status {
        JobStatus::Starting => Phase::Preparing,
        JobStatus::Running => Phase::Running,
        JobStatus::Done | JobStatus::Crashed | JobStatus::Failed if record.cleaned => {
            Phase::Cleaned
        }
        JobStatus::Done | JobStatus::Crashed | JobStatus::Failed => Phase::Ended,
    }
}

/// Volumes of the job that another one has, in the job's order.
fn volume_conflicts(inner: &Inner, job: &Job) -> Vec<String> {
    let taken = |volume: &str| {
        let mut active = inner.jobs.values().map(|entry| &entry.record.active);
        active.any(|active| {
            !active.status.has_ended()
                && active.job.config.volumes.iter().any(|binding| binding.volume == volume)
        })
    };
    let wanted = job.config.volumes.iter().map(|binding| &binding.volume);
    wanted.filter(|volume| taken(volume)).cloned().collect()
}

fn new_job(job: Job, host: &HostId, now: Timestamp) -> ActiveJob {
    ActiveJob {
        job,
        host_id: host.to_string(),
        internal_ip: None,
        pid: None,
        force_stop: false,
        status: JobStatus::Starting,
        created_at: now,
        started_at: Timestamp::default(),
        ended_at: Timestamp::default(),
        exit_status: None,
        error: None,
    }
}

fn life_of(active: &ActiveJob) -> Life {
    Life {
        status: match active.status {
            JobStatus::Starting => Status::Starting,
            JobStatus::Running => Status::Running,
            JobStatus::Done => Status::Done,
            JobStatus::Crashed => Status::Crashed,
            JobStatus::Failed => Status::Failed,
        },
        stop_requested: active.force_stop,
        started_at: active.started_at.wall(),
        ended_at: active.ended_at.wall(),
        exit_status: active.exit_status,
        error: active.error.clone(),
    }
}

fn write_life(active: &mut ActiveJob, life: &Life) {
    active.status = match life.status {
        Status::Starting => JobStatus::Starting,
        Status::Running => JobStatus::Running,
        Status::Done => JobStatus::Done,
        Status::Crashed => JobStatus::Crashed,
        Status::Failed => JobStatus::Failed,
    };
    active.force_stop = life.stop_requested;
    active.started_at = life.started_at.map(Timestamp::from).unwrap_or_default();
    active.ended_at = life.ended_at.map(Timestamp::from).unwrap_or_default();
    active.exit_status = life.exit_status;
    active.error.clone_from(&life.error);
    if life.status.has_ended() {
        active.pid = None;
    }
}
