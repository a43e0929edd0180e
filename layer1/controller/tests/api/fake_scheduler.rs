//! A stand-in of the scheduler for one app: keeps its recorded jobs as its formations want them, and
//! has the jobs of chosen releases fail in chosen ways.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use controller_api::{Client, ExpandedFormation, Job, JobState, JobUuid, ScaleRequest, ScaleState};
use kit_ids::{JobId, ReleaseId};
use kit_tasks::Tasks;

/// What becomes of a release's jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They come up and stay.
    Work,
    /// Their program ends as soon as it starts.
    Crash,
    /// They come up and end soon after.
    CrashLater,
    /// They run and never come up.
    Hang,
}

/// Acts until its tasks are stopped.
#[derive(Clone)]
pub(crate) struct FakeScheduler {
    api: Client,
    app: String,
    fates: Arc<Mutex<BTreeMap<ReleaseId, Fate>>>,
}

type Running = BTreeMap<(ReleaseId, String), Vec<Job>>;

impl FakeScheduler {
    pub(crate) fn start(api: Client, app: &str, tasks: &Tasks) -> Self {
        let fake = Self { api, app: app.to_owned(), fates: Arc::default() };
        let acting = fake.clone();
        tasks.spawn_until_stop("scheduler", async move {
            let mut running = Running::new();
            loop {
                acting.round(&mut running).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        fake
    }

    pub(crate) fn set_fate(&self, release: &str, fate: Fate) {
        self.fates.lock().unwrap().insert(release.parse().unwrap(), fate);
    }

    /// A controller that is away for a moment is asked again.
    async fn round(&self, running: &mut Running) {
        let Ok(known) = self.api.formations(&self.app).await else { return };
        for ((release, _), jobs) in running.iter_mut() {
            if !known.iter().any(|formation| formation.release.as_ref() == Some(release)) {
                for job in std::mem::take(jobs) {
                    self.stop(job).await;
                }
            }
        }
        for formation in known {
            let release = formation.release.unwrap();
            let formation = self.api.expanded_formation(&self.app, &release).await;
            if let Ok(formation) = formation {
                self.act(&release, &formation, running).await;
            }
        }
    }

    async fn act(&self, release: &ReleaseId, formation: &ExpandedFormation, running: &mut Running) {
        let fate = self.fates.lock().unwrap().get(release).copied().unwrap_or(Fate::Work);
        let mut fulfilled = true;
        for (name, wanted) in &formation.processes {
            let jobs = running.entry((release.clone(), name.clone())).or_default();
            let wanted = *wanted as usize;
            while jobs.len() > wanted {
                self.stop(jobs.pop().unwrap()).await;
            }
            if fate == Fate::CrashLater && !jobs.is_empty() {
                let job = jobs.remove(0);
                self.tell(&Job { exit_status: Some(4), ..job }, JobState::Down).await;
            }
            while jobs.len() < wanted {
                jobs.extend(self.begin(release, name, formation, fate).await);
                if fate == Fate::Crash {
                    break;
                }
            }
            fulfilled &= jobs.len() == wanted && fate != Fate::Hang;
        }
        if let (Some(request), true) = (&formation.pending_scale_request, fulfilled) {
            let state = Some(ScaleState::Complete);
            let done = ScaleRequest { id: request.id.clone(), state, ..ScaleRequest::default() };
            // One that was replaced meanwhile cannot be completed.
            drop(self.api.put_scale(&self.app, release, &done).await);
        }
    }

    async fn begin(
        &self,
        release: &ReleaseId,
        name: &str,
        formation: &ExpandedFormation,
        fate: Fate,
    ) -> Option<Job> {
        let id = JobId::random(&"host0".parse().unwrap());
        let job = Job {
            uuid: Some(JobUuid::try_from(&id).unwrap()),
            id: Some(id),
            host_id: Some("host0".parse().unwrap()),
            app: formation.app.as_ref().unwrap().id.clone(),
            release: Some(release.clone()),
            process_type: name.to_owned(),
            ..Job::default()
        };
        self.tell(&job, JobState::Pending).await;
        self.tell(&job, JobState::Starting).await;
        match fate {
            Fate::Work | Fate::CrashLater => self.tell(&job, JobState::Up).await,
            Fate::Hang => {}
            Fate::Crash => {
                self.tell(&Job { exit_status: Some(3), ..job }, JobState::Down).await;
                return None;
            }
        }
        Some(job)
    }

    async fn stop(&self, job: Job) {
        self.tell(&job, JobState::Stopping).await;
        self.tell(&job, JobState::Down).await;
    }

    async fn tell(&self, job: &Job, state: JobState) {
        let told = Job { state: Some(state), ..job.clone() };
        while self.api.put_job(&told).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
