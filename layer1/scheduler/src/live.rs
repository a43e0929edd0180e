//! The real world of a scheduler: HTTP to controller, discoverd and hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use controller_api::{Client, ExpandedFormation, Job, ScaleRequest, SchedulerTurn, Volume};
use discoverd_api::ServiceMeta;
use host_api::{ActiveJob, HostClient, VolumeInfo};
use kit_http::{ClientError, ErrorCode};
use kit_ids::{HostId, JobId};
use kit_tasks::Tasks;
use kit_units::{Bytes, Millicpu};
use placement::{FormationKey, Reservation};

use crate::cluster::{Away, Cluster, HostAnswer, HostSeen, Kept, KeptHost, Lookup, Made, NotAdded};
use crate::routers::Routers;

/// The service all schedulers are in; its metadata holds the hosts that are known.
pub(crate) const SERVICE: &str = "controller-scheduler";
/// Metadata that a job's supervisor writes on the instances it registers.
const META_JOB: &str = "FLYNN_JOB_ID";
/// How long a host may take to answer what it only has to look up.
const HOST_TIMEOUT: Duration = Duration::from_secs(5);
/// What a host that does not tell its size is taken for; it refuses what it cannot hold.
const UNTOLD: Reservation = Reservation { memory: Bytes::gib(1024), cpu: Millicpu(1_000_000) };
/// How long a host may take to stop a job: it gives the program 30 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Stops under way at a time; each may wait that long.
const MAX_STOPS: usize = 1024;
/// How long requests under way may hold up the end of their job.
const DRAIN: Duration = Duration::from_secs(10);
/// Whoever follows a service and does not tell us, as resolvers of names, has this long to notice.
const NOTICE: Duration = Duration::from_millis(300);

/// Controller, discoverd and hosts.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) controller: Client,
    pub(crate) discoverd: discoverd_api::Client,
    pub(crate) tasks: Tasks,
    routers: Routers,
    hosts: Mutex<BTreeMap<String, HostClient>>,
    turn: Mutex<Turn>,
    stopping: Arc<Mutex<BTreeSet<JobId>>>,
}

/// Whether the controller takes what this scheduler says for the last word.
#[derive(Clone, Copy, Debug, Default)]
enum Turn {
    /// It was not asked, or somebody else was faster.
    #[default]
    Lost,
    /// This is the number of our turn; none with a controller that does not count turns yet.
    Ours(Option<SchedulerTurn>),
}

/// What is kept of the hosts, in the form of the metadata.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct KeptMeta {
    hosts: BTreeMap<HostId, KeptHost>,
}

impl Live {
    pub(crate) fn new(controller: Client, discoverd: discoverd_api::Client, tasks: Tasks) -> Self {
        let routers = Routers::follow(&discoverd, &tasks);
        let (hosts, turn, stopping) = (Mutex::default(), Mutex::default(), Arc::default());
        Self { controller, discoverd, tasks, routers, hosts, turn, stopping }
    }

    fn set_turn(&self, turn: Turn) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }

    fn turn(&self) -> Turn {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One client a host, so that connections are used again.
    pub(crate) fn host(&self, seen: &HostSeen) -> Result<HostClient, Away> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = hosts.get(&seen.url) {
            return Ok(client.clone());
        }
        let http = kit_http::Client::builder(&seen.url).request_timeout(HOST_TIMEOUT).build();
        let client = HostClient::from_client(http.map_err(away)?);
        hosts.insert(seen.url.clone(), client.clone());
        Ok(client)
    }
}

impl Cluster for Live {
    async fn claim(&self) -> Result<bool, Away> {
        if let Turn::Ours(_) = self.turn() {
            return Ok(false);
        }
        let turn = match self.controller.next_scheduler_turn().await {
            Ok(turn) => Some(turn),
            // An update replaces the scheduler and the controller one after the other.
            Err(error) if is_missing(&error) => None,
            Err(error) => return Err(away(error)),
        };
        self.set_turn(Turn::Ours(turn));
        Ok(true)
    }

    fn fresh_name(&self) -> uuid::Uuid {
        uuid::Uuid::new_v4()
    }

    async fn formations(&self) -> Result<Vec<ExpandedFormation>, Away> {
        self.controller.active_formations().await.map_err(away)
    }

    async fn formation(&self, key: &FormationKey) -> Result<Lookup, Away> {
        match self.controller.expanded_formation(key.app.as_str(), &key.release).await {
            Ok(formation) => return Ok(Lookup::Found(Box::new(formation))),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(away(error)),
        }
        match self.controller.app(key.app.as_str()).await {
            Ok(_) => Ok(Lookup::Deleted),
            Err(error) if is_missing(&error) => Ok(Lookup::Unknown),
            Err(error) => Err(away(error)),
        }
    }

    async fn recorded(&self) -> Result<Vec<Job>, Away> {
        self.controller.active_jobs().await.map_err(away)
    }

    async fn record(&self, job: &Job) -> Result<(), Away> {
        let superseded = || Away("another scheduler acts".to_owned());
        let Turn::Ours(turn) = self.turn() else { return Err(superseded()) };
        match self.controller.put_job_in_turn(job, turn).await {
            Ok(_) => Ok(()),
            Err(error) if error.api_code() == Some(ErrorCode::PreconditionFailed) => {
                self.set_turn(Turn::Lost);
                Err(superseded())
            }
            Err(error) => Err(away(error)),
        }
    }

    async fn volumes(&self) -> Result<Vec<Volume>, Away> {
        self.controller.volumes().await.map_err(away)
    }

    async fn record_volume(&self, volume: &Volume) -> Result<(), Away> {
        self.controller.put_volume(volume).await.map(drop).map_err(away)
    }

    async fn complete(&self, key: &FormationKey, request: &ScaleRequest) -> Result<(), Away> {
        self.controller
            .put_scale(key.app.as_str(), &key.release, request)
            .await
            .map(drop)
            .map_err(away)
    }

    async fn hosts(&self) -> Result<Vec<HostSeen>, Away> {
        let instances = match self.discoverd.instances("flynn-host").await {
            Ok(instances) => instances,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(Away(error.to_string())),
        };
        Ok(instances.iter().filter_map(host_seen).collect())
    }

    async fn kept(&self) -> Result<Kept, Away> {
        let meta = self.discoverd.meta(SERVICE).await.map_err(|error| Away(error.to_string()))?;
        let Some(meta) = meta else { return Ok(Kept::default()) };
        let known = meta.parse::<Option<KeptMeta>>();
        let known = known.map_err(|error| Away(format!("the kept hosts: {error}")))?;
        Ok(Kept { index: meta.index, hosts: known.unwrap_or_default().hosts })
    }

    async fn keep(&self, kept: &Kept) -> Result<u64, Away> {
        let meta = KeptMeta { hosts: kept.hosts.clone() };
        let meta = ServiceMeta::replace(kept.index, &meta);
        let meta = meta.map_err(|error| Away(error.to_string()))?;
        let written = self.discoverd.set_meta(SERVICE, &meta).await;
        written.map(|written| written.index).map_err(|error| Away(error.to_string()))
    }

    async fn ask(&self, host: &HostSeen) -> Result<HostAnswer, Away> {
        if host.url.is_empty() {
            return Err(Away("its address is not known".to_owned()));
        }
        ask(&self.host(host)?).await
    }

    async fn answering(&self, service: &str) -> Result<BTreeSet<JobId>, Away> {
        match self.discoverd.instances(service).await {
            Ok(instances) => Ok(instances
                .iter()
                .filter_map(|instance| instance.meta.get(META_JOB)?.parse().ok())
                .collect()),
            Err(error) if error.is_not_found() => Ok(BTreeSet::new()),
            Err(error) => Err(Away(error.to_string())),
        }
    }

    async fn add(&self, host: &HostSeen, job: &host_api::Job) -> Result<(), NotAdded> {
        let client = self.host(host).map_err(NotAdded::Away)?;
        give(&client, job).await
    }

    /// Traffic ends before the program does: the job is taken out of its services, the routers finish
    /// what they have sent to it, then it is stopped. That takes its time, so it runs beside the
    /// rounds; one stop a job at a time.
    async fn stop(&self, host: &HostSeen, job: &JobId) -> Result<(), Away> {
        let http = kit_http::Client::builder(&host.url).request_timeout(STOP_TIMEOUT).build();
        let client = HostClient::from_client(http.map_err(away)?);
        let (stopping, job) = (self.stopping.clone(), job.clone());
        {
            let mut stopping = stopping.lock().unwrap_or_else(PoisonError::into_inner);
            if stopping.len() >= MAX_STOPS || !stopping.insert(job.clone()) {
                return Ok(());
            }
        }
        let routers = self.routers.clone();
        self.tasks.spawn_until_stop("stop", async move {
            match client.deregister_job(&job).await {
                Ok(()) => {
                    tokio::time::sleep(NOTICE).await;
                    if !routers.drained(&job, DRAIN).await {
                        tracing::info!(%job, "stopping a job that still has requests");
                    }
                }
                Err(error) => {
                    tracing::debug!(%job, %error, "job not taken out of its services");
                }
            }
            if let Err(error) = client.stop_job(&job).await {
                tracing::debug!(%job, %error, "job not stopped");
            }
            stopping.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        });
        Ok(())
    }

    async fn make_volume(&self, host: &HostSeen, volume: &VolumeInfo) -> Result<Made, Away> {
        match self.host(host)?.create_volume("default", volume).await {
            Ok(_) => Ok(Made::Now),
            Err(error) if error.api_code() == Some(ErrorCode::ObjectExists) => Ok(Made::Before),
            Err(error) => Err(away(error)),
        }
    }
}

/// Gives a host a job. A host that answers anything but yes has the job already or refuses it (no room,
/// a full disk, a volume that is in use): it is asked which. Only one that is busy is asked again.
pub(crate) async fn give(client: &HostClient, job: &host_api::Job) -> Result<(), NotAdded> {
    let Err(error) = client.add_job(job).await else { return Ok(()) };
    match error.api() {
        None => return Err(NotAdded::Away(away(error))),
        Some(answer) if answer.code == ErrorCode::RateLimited => {
            return Err(NotAdded::Away(away(error)));
        }
        Some(_) => {}
    }
    match client.job(&job.id).await {
        Ok(_) => Ok(()),
        Err(unknown) if is_missing(&unknown) => {
            let said = error.api().map(|answer| answer.message.clone());
            Err(NotAdded::Refused(said.unwrap_or_else(|| away(error).0)))
        }
        Err(unclear) => Err(NotAdded::Away(away(unclear))),
    }
}

/// A host's jobs and room.
pub(crate) async fn ask(client: &HostClient) -> Result<HostAnswer, Away> {
    let status = client.status().await.map_err(away)?;
    let jobs: Vec<ActiveJob> = client.jobs().await.map_err(away)?.into_values().collect();
    let capacity = status.resources.map_or(UNTOLD, |resources| Reservation {
        memory: Bytes(resources.memory.total),
        cpu: Millicpu(resources.cpu.total),
    });
    Ok(HostAnswer { capacity, jobs })
}

/// A host's instance carries its id, its tags and whether it is leaving.
fn host_seen(instance: &discoverd_api::Instance) -> Option<HostSeen> {
    let tags = instance.meta.iter().filter_map(|(key, value)| {
        key.strip_prefix("tag:").map(|key| (key.to_owned(), value.clone()))
    });
    Some(HostSeen {
        id: instance.meta.get("id")?.parse().ok()?,
        url: format!("http://{}", instance.addr),
        tags: tags.collect(),
        draining: instance.meta.get("shutdown").is_some_and(|value| value == "true"),
    })
}

fn is_missing(error: &ClientError) -> bool {
    let code = error.api_code();
    error.is_not_found()
        || code == Some(ErrorCode::NotFound)
        || code == Some(ErrorCode::ObjectNotFound)
}

/// The error with its causes, for the log of whoever handles it.
#[expect(clippy::needless_pass_by_value, reason = "the form map_err takes")]
fn away(error: ClientError) -> Away {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Away(text)
}
