//! The real world of a scheduler: HTTP to controller, discoverd and hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use controller_api::{Client, ExpandedFormation, Job, ScaleRequest, Volume};
use host_api::{ActiveJob, HostClient, VolumeInfo};
use kit_http::{ClientError, ErrorCode};
use kit_ids::JobId;
use kit_tasks::Tasks;
use kit_units::{Bytes, Millicpu};
use placement::{FormationKey, Reservation};

use crate::cluster::{Away, Cluster, HostAnswer, HostSeen, Lookup, NotAdded};
use crate::routers::Routers;

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
    stopping: Arc<Mutex<BTreeSet<JobId>>>,
}

impl Live {
    pub(crate) fn new(controller: Client, discoverd: discoverd_api::Client, tasks: Tasks) -> Self {
        let routers = Routers::follow(&discoverd, &tasks);
        let (hosts, stopping) = (Mutex::default(), Arc::default());
        Self { controller, discoverd, tasks, routers, hosts, stopping }
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
        self.controller.put_job(job).await.map(drop).map_err(away)
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

    async fn ask(&self, host: &HostSeen) -> Result<HostAnswer, Away> {
        if host.url.is_empty() {
            return Err(Away("its address is not known".to_owned()));
        }
        let client = self.host(host)?;
        let status = client.status().await.map_err(away)?;
        let jobs: Vec<ActiveJob> = client.jobs().await.map_err(away)?.into_values().collect();
        let capacity = status.resources.map_or(UNTOLD, |resources| Reservation {
            memory: Bytes(resources.memory.total),
            cpu: Millicpu(resources.cpu.total),
        });
        Ok(HostAnswer { capacity, jobs })
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
        match client.add_job(job).await {
            Ok(()) => Ok(()),
            Err(error) if error.api_code() == Some(ErrorCode::Conflict) => {
                // Two things are a conflict: the host has the job, or it has no room for it.
                match client.job(&job.id).await {
                    Ok(_) => Ok(()),
                    Err(_) => Err(NotAdded::Refused(away(error).0)),
                }
            }
            Err(error) if error.api_code() == Some(ErrorCode::Validation) => {
                Err(NotAdded::Refused(away(error).0))
            }
            Err(error) => Err(NotAdded::Away(away(error))),
        }
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

    async fn make_volume(&self, host: &HostSeen, volume: &VolumeInfo) -> Result<(), Away> {
        match self.host(host)?.create_volume("default", volume).await {
            Ok(_) => Ok(()),
            Err(error) if error.api_code() == Some(ErrorCode::ObjectExists) => Ok(()),
            Err(error) => Err(away(error)),
        }
    }
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
