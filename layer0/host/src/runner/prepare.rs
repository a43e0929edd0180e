//! Everything a job needs before its first instruction: network and discoverd known, layers there and
//! mounted, scratch disk, user ids, address, description, supervisor.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host_api::{Job, Mountspec};
use host_container::protocol::{BindMount, JobSpec, NetworkSpec, UserNamespace};
use host_image::{Layer, LayerError, Mounted};
use host_network::{JobNetwork, JobRequest, NetworkError, Partition};
use kit_ids::JobId;
use rustix::process::{Pid, PidfdFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::OwnedSemaphorePermit;

use super::description::{self, BadJob, Place};
use crate::host::{Host, app_of};
use crate::registration;
use crate::supervisor::Supervisor;

/// Why a job has no container.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    #[error(transparent)]
    BadJob(#[from] BadJob),
    #[error("the job is gone")]
    Gone,
    #[error("job {job} required volume {volume}, but that volume does not exist")]
    NoVolume { job: JobId, volume: String },
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Fetch(#[from] host_image::FetchError),
    #[error(transparent)]
    Mount(#[from] host_image::MountError),
    #[error("cannot make the scratch disk")]
    Scratch(#[from] crate::scratch::ScratchError),
    #[error(transparent)]
    Range(#[from] crate::ranges::RangeError),
    #[error("cannot make the network")]
    Network(#[from] NetworkError),
    #[error("cannot {action}")]
    Io { action: &'static str, source: std::io::Error },
}

impl PrepareError {
    /// Whether nothing was made yet.
    pub(super) fn is_early(&self) -> bool {
        matches!(self, Self::BadJob(_))
    }

    /// The error with its causes, for people.
    pub(super) fn reason(&self) -> String {
        let causes =
            std::iter::successors(Some(self as &dyn std::error::Error), |cause| cause.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}

/// Makes everything the supervisor needs. May be dropped at any point: what was made is found again by
/// the job's id.
pub(super) async fn make(
    host: &Arc<Host>,
    id: &JobId,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<(JobSpec, Option<OwnedSemaphorePermit>), PrepareError> {
    let mut job = host.registry.get(id).await?.ok_or(PrepareError::Gone)?.active.job;
    let place = description::place_of(&job)?;
    let permit = configured(host, &job, permit).await;
    let limits = host.limits(&job);
    // None waits for another; all are waited for, so that what failed leaves none under way.
    let (layers, volumes, scratch_dir, user_namespace, network) = tokio::join!(
        held_layers(host, &job),
        volumes(host, &job),
        host.scratch.make(id, limits.scratch),
        user_namespace(host, &job, place),
        network(host, &job),
    );
    let (layers, volumes, scratch_dir) = (layers?, volumes?, scratch_dir?);
    let (user_namespace, network) = (user_namespace?, network?);
    let external_ip = network.as_ref().map(|network| network.ip);
    description::fill_in(&mut job, external_ip);
    let stored = job.clone();
    host.registry
        .update(id, move |active| {
            active.job = stored;
            active.internal_ip = external_ip.map(Into::into);
        })
        .await?;
    let job_dir = host.job_dir(id);
    let bind_files = write_files(host, &job, &job_dir)?;
    let network =
        network.map_or(NetworkSpec::Host, |network| NetworkSpec::Namespace(network.netns));
    let made = description::Made {
        job_dir,
        layers,
        scratch_dir,
        user_namespace,
        volumes,
        bind_files,
        network,
        limits,
        discoverd: host.settings.now().discoverd.map(|discoverd| discoverd.url),
        registration: registers(host, &job).map(registration::url),
    };
    let spec = description::describe(&host.config, &job, made)?;
    Ok((spec, permit))
}

/// Waits for what the job needs to know; the turn is given back meanwhile.
async fn configured(
    host: &Host,
    job: &Job,
    permit: Option<OwnedSemaphorePermit>,
) -> Option<OwnedSemaphorePermit> {
    let needs_network = !job.config.host_network;
    let needs_discoverd = !job.config.env.contains_key("DISCOVERD");
    let mut told = host.settings.watch();
    let is_there = |told: &crate::settings::Told| {
        (!needs_network || told.network.is_some()) && (!needs_discoverd || told.discoverd.is_some())
    };
    if is_there(&told.borrow()) {
        return permit;
    }
    let had_turn = permit.is_some();
    drop(permit);
    // The settings live as long as the host, so this ends only when they are there.
    drop(told.wait_for(is_there).await);
    if !had_turn {
        return None;
    }
    host.making.clone().acquire_owned().await.ok()
}

/// Where the job's layers are, mounted until it is cleaned up.
async fn held_layers(host: &Host, job: &Job) -> Result<Vec<PathBuf>, PrepareError> {
    let layers = layers(host, &job.mountspecs).await?;
    let paths = layers.iter().map(|layer| layer.path().to_owned()).collect();
    host.hold(&job.id, layers);
    Ok(paths)
}

async fn layers(host: &Host, specs: &[Mountspec]) -> Result<Vec<Mounted>, PrepareError> {
    let peers = host.peers.borrow().clone();
    let mut layers: Vec<Mounted> = Vec::new();
    for spec in specs {
        let layer = layer_of(spec)?;
        let key = host.fetcher.ensure(&layer, &peers).await?;
        let mounts = host.mounts.clone();
        let mounted = tokio::task::spawn_blocking(move || mounts.acquire(&key)).await;
        let lost = |error| PrepareError::Io {
            action: "mount a layer",
            source: std::io::Error::other(error),
        };
        let mounted = mounted.map_err(lost)??;
        // The same layer twice in one overlay is an error of the kernel's.
        if layers.iter().all(|layer| layer.path() != mounted.path()) {
            layers.push(mounted);
        }
    }
    Ok(layers)
}

fn layer_of(spec: &Mountspec) -> Result<Layer, PrepareError> {
    let size = u64::try_from(spec.size).unwrap_or(0);
    if size == 0 {
        return Err(LayerError::NoSize(spec.id.clone()).into());
    }
    Ok(Layer { id: spec.id.clone(), url: spec.url.clone(), size, hashes: spec.hashes.clone() })
}

async fn volumes(host: &Host, job: &Job) -> Result<Vec<BindMount>, PrepareError> {
    let mut mounts = Vec::new();
    for binding in &job.config.volumes {
        let missing =
            || PrepareError::NoVolume { job: job.id.clone(), volume: binding.volume.clone() };
        let source = host.volumes.path(&binding.volume).await.ok_or_else(missing)?;
        mounts.push(BindMount {
            source,
            target: binding.target.clone(),
            writeable: binding.writeable,
        });
    }
    Ok(mounts)
}

async fn user_namespace(
    host: &Host,
    job: &Job,
    place: Place,
) -> Result<Option<UserNamespace>, PrepareError> {
    Ok(match place {
        Place::Mapped => Some(host.ranges.of(&owner(job)).await?),
        Place::Host => None,
    })
}

async fn network(host: &Host, job: &Job) -> Result<Option<JobNetwork>, PrepareError> {
    if job.config.host_network {
        return Ok(None);
    }
    let partition = description::partition_of(job)?;
    let mut request = JobRequest::new(job.id.clone(), partition);
    if let Some(app) = app_of(job) {
        request = request.of_app(app);
    }
    if let Some(bridge) = registers(host, job) {
        request = request.allowing(bridge, registration::PORT);
    }
    if partition == Partition::System {
        request = background_ports(host, job).into_iter().fold(request, JobRequest::serving_builds);
    }
    Ok(Some(host.nets.attach_job(request).await?))
}

/// The ports of a system job that jobs of partition background need (design.md D5).
fn background_ports(host: &Host, job: &Job) -> Vec<u16> {
    let services = &host.config.background_services;
    let ports = job.config.ports.iter();
    let open = ports.filter(|port| {
        port.service.as_ref().is_some_and(|service| services.contains(&service.name))
    });
    open.map(|port| port.port).collect()
}

/// The bridge, for a job of people that registers itself there; the platform's own ask discoverd.
fn registers(host: &Host, job: &Job) -> Option<Ipv4Addr> {
    let is_peoples = parse_partition(&job.partition) != Some(Partition::System);
    let bridge = registration::bridge(&host.settings.now());
    bridge.filter(|_| job.config.register && is_peoples)
}

/// Who shares a range of user ids: an app's jobs, else the job alone.
pub(super) fn owner(job: &Job) -> String {
    app_of(job).map_or_else(|| job.id.to_string(), |app| app.to_string())
}

/// The files every job sees: names of itself and its name servers.
fn write_files(host: &Host, job: &Job, job_dir: &Path) -> Result<Vec<BindMount>, PrepareError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let failed = |source| PrepareError::Io { action: "write the job's files", source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(job_dir).map_err(failed)?;
    let hostname = description::hostname(&job.id);
    let files = [
        ("resolv.conf", "/etc/resolv.conf", resolv_conf(host, job)),
        ("hosts", "/etc/hosts", format!("127.0.0.1 localhost {hostname}\n")),
    ];
    let mut mounts = Vec::new();
    for (name, target, text) in files {
        let source = job_dir.join(name);
        std::fs::write(&source, text).map_err(failed)?;
        mounts.push(BindMount { source, target: target.to_owned(), writeable: false });
    }
    Ok(mounts)
}

/// Discoverd's DNS on the bridge when there is a discoverd, else what the host itself asks.
fn resolv_conf(host: &Host, job: &Job) -> String {
    let told = host.settings.now();
    let bridge = told.network.as_ref().and_then(|network| network.subnet.split('/').next());
    // Its DNS comes up a moment after discoverd itself; a job that starts in between waits for it.
    let has_dns = told.discoverd.as_ref().is_some_and(|discoverd| !discoverd.url.is_empty());
    if let Some(bridge) = bridge.filter(|_| has_dns) {
        return format!("nameserver {bridge}\n");
    }
    let resolvers = told.network.map(|network| network.resolvers).unwrap_or_default();
    if resolvers.is_empty() {
        return std::fs::read_to_string("/etc/resolv.conf").unwrap_or_else(|error| {
            tracing::warn!(job = %job.id, %error, "job gets no name servers");
            String::new()
        });
    }
    resolvers.iter().map(|resolver| format!("nameserver {resolver}\n")).collect()
}

/// Starts the supervisor; none when it has ended already. From here on there is a process.
pub(super) fn launch(host: &Arc<Host>, spec: &JobSpec) -> Result<Option<Supervisor>, PrepareError> {
    let failed = |source| PrepareError::Io { action: "start the supervisor", source };
    if let Some(child) = host.launcher.launch(spec).map_err(failed)? {
        host.tasks.spawn("reap", reap(child));
    }
    // Its socket is there before it is; one that ended at once has left a record, or was lost.
    Ok(Supervisor::connect(&spec.job_dir).ok())
}

/// Waits for a supervisor's end, so that it does not stay as a zombie.
async fn reap(mut child: std::process::Child) {
    let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    match pidfd.map_err(std::io::Error::from).and_then(watched) {
        Ok(pidfd) => drop(pidfd.readable().await),
        Err(error) => tracing::warn!(%error, "end of a supervisor is not watched"),
    }
    if let Err(error) = child.try_wait() {
        tracing::warn!(%error, "supervisor not reaped");
    }
}

#[expect(
    deprecated,
    reason = "the other constructor is unsafe; an owned descriptor stays open as long as this"
)]
fn watched(pidfd: std::os::fd::OwnedFd) -> std::io::Result<AsyncFd<std::os::fd::OwnedFd>> {
    AsyncFd::new(pidfd)
}

/// What the firewall needs to know is the partition; a job of none is of `user`.
pub(super) fn parse_partition(text: &str) -> Option<Partition> {
    if text.is_empty() { Some(Partition::User) } else { text.parse().ok() }
}
