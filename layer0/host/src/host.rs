//! Everything the parts of one daemon share, and the small questions asked of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use host_api::Job;
use host_image::{Fetcher, Images, LayerMounts, LayerStore, Mounted};
use host_job::{Limits, Stated, StatedResources};
use kit_clock::Clock;
use kit_ids::{AppId, JobId};
use kit_tasks::Tasks;
use tokio::sync::{Semaphore, watch};

use crate::config::Config;
use crate::gates::Gates;
use crate::logs::{Logs, Origin};
use crate::nets::Nets;
use crate::ranges::Ranges;
use crate::registry::Registry;
use crate::scratch::Scratch;
use crate::settings::Settings;
use crate::sinks::Sinks;
use crate::supervisor::Launcher;
use crate::volumes::Volumes;

/// One host's parts.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) config: Config,
    /// Where the API is, for others.
    pub(crate) url: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Registry,
    pub(crate) settings: Settings,
    pub(crate) volumes: Volumes,
    pub(crate) ranges: Ranges,
    pub(crate) scratch: Scratch,
    pub(crate) logs: Arc<Logs>,
    pub(crate) sinks: Sinks,
    pub(crate) layers: LayerStore,
    pub(crate) mounts: LayerMounts,
    pub(crate) fetcher: Fetcher,
    pub(crate) images: Images,
    pub(crate) nets: Arc<dyn Nets>,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) gates: Gates,
    /// Base URLs of the other hosts.
    pub(crate) peers: watch::Sender<Vec<String>>,
    /// One for each job in the making.
    pub(crate) making: Arc<Semaphore>,
    /// Layers by the job that uses them.
    pub(crate) held: Mutex<BTreeMap<JobId, Vec<Mounted>>>,
    /// Set when the host goes down: nothing is added or restarted from then on.
    pub(crate) going_down: AtomicBool,
    pub(crate) tasks: Tasks,
}

impl Host {
    /// The folder of a job's supervisor.
    pub(crate) fn job_dir(&self, job: &JobId) -> PathBuf {
        self.config.data_dir.join("jobs").join(job.as_str())
    }

    /// What stands in the heads of a job's log messages.
    pub(crate) fn origin(&self, job: &Job) -> Origin {
        Origin {
            host: self.config.id.to_string(),
            app: app_of(job),
            process_type: job.meta("flynn-controller.type").unwrap_or_default().replace(' ', "_"),
            job: job.id.clone(),
        }
    }

    /// What a job may use and what is reserved for it.
    pub(crate) fn limits(&self, job: &Job) -> Limits {
        Limits::of(&stated(job), &self.config.defaults)
    }

    /// Keeps layers mounted for a job.
    pub(crate) fn hold(&self, job: &JobId, layers: Vec<Mounted>) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(job.clone(), layers);
    }

    /// Gives a job's layers back; they are unmounted when this is dropped.
    pub(crate) fn release(&self, job: &JobId) -> Option<Vec<Mounted>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(job)
    }
}

/// The job's app, if it has one.
pub(crate) fn app_of(job: &Job) -> Option<AppId> {
    let named =
        job.meta("flynn-controller.app").or(job.config.env.get("FLYNN_APP_ID").map(String::as_str));
    named.and_then(|app| app.parse().ok())
}

/// Whether a job's output goes to its attacher and into no log.
pub(crate) fn is_direct(job: &Job) -> bool {
    job.config.tty || job.config.disable_log
}

/// The resources a job states; negative numbers count as not stated.
fn stated(job: &Job) -> StatedResources {
    use host_api::ResourceKind;
    let of = |kind| {
        let resource = job.resources.get(kind);
        let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        Stated { request: number(resource.request), limit: number(resource.limit) }
    };
    StatedResources {
        memory: of(ResourceKind::Memory),
        cpu: of(ResourceKind::Cpu),
        temp_disk: of(ResourceKind::TempDisk),
        max_fd: of(ResourceKind::MaxFd),
        max_procs: of(ResourceKind::MaxProcs),
    }
}
