//! The build job: started through the controller, the source on its standard input, its output passed
//! on, stopped when this process is asked to end. What it makes is told by the slug's artifact, not by
//! the job.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use controller_api::{NewJob, Partition, Resources};
use futures_util::StreamExt as _;
use host_api::ResourceKind;
use host_api::frame::{ClientFrame, FrameError, ServerFrame, Stream};
use kit_auth::BuildScope;
use kit_clock::{Clock as _, SystemClock};
use kit_http::{ClientError, Upgraded};
use kit_ids::ArtifactId;
use kit_units::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::Work;
use crate::pipe;
use crate::source::{Source, is_file_name};
use crate::terminal::Terminal;

/// The process type of build jobs, and of the release's entry that states their limits.
pub(crate) const BUILD_TYPE: &str = "slugbuilder";
/// Metadata of a build job: the job whose receiver waits for it.
pub(crate) const META_JOB: &str = "gitreceive.job";
/// Metadata of a build job: the push it belongs to.
pub(crate) const META_PUSH: &str = "gitreceive.push";
/// Metadata of a build job: the artifact it makes.
const META_SLUG: &str = "gitreceive.slug";

/// Scratch space of builds: source, dependencies, cache and slug at once. Files are sparse.
const SCRATCH: Bytes = Bytes::gib(8);
/// What the controller fills in where nobody stated a size, which is no size for builds.
const FILLED_IN_SCRATCH: i64 = 100 << 20;
const TERM: u32 = 15;
/// How long a build job has to end by itself.
const GRACE: Duration = Duration::from_secs(3);
/// How long stopping it through the controller may take.
const STOPPING: Duration = Duration::from_secs(8);

/// Why there is no slug.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error("{0}")]
    Image(String),
    #[error("CONTROLLER_KEY is not set")]
    NoKey,
    #[error("neither the app nor this process has a release to run the build job of")]
    NoRelease,
    #[error("the build job could not be started")]
    Start(#[source] ClientError),
    #[error("the connection to the build job broke")]
    Connection(#[from] std::io::Error),
    #[error("the connection to the build job ended before the build")]
    Lost,
    #[error("the host sent what is no frame")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Host(String),
    #[error("the source cannot be sent: {0}")]
    Source(std::io::Error),
    #[error("exit status {0}")]
    Exit(u32),
    #[error("cancelled")]
    Cancelled,
}

/// Builds, or stops the build job when `asked_to_end` resolves.
pub(super) async fn run(
    work: &Work<'_>,
    slug: &ArtifactId,
    source: Source,
    terminal: &mut Terminal,
    mut asked_to_end: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), BuildError> {
    for name in work.env().keys().filter(|name| !is_file_name(name)) {
        terminal.say(&format!("WARNING: {name:?} is no name for a variable of builds")).await;
    }
    let request = request(work, slug)?;
    let app = work.target.id.as_str();
    let connection = tokio::select! {
        () = &mut asked_to_end => Err(BuildError::Cancelled),
        started = work.controller.run_job_attached(app, &request) => {
            started.map_err(BuildError::Start)
        }
    };
    let outcome = match connection {
        Ok(connection) => {
            let (reader, mut writer) = tokio::io::split(connection);
            let talk = talk(reader, &mut writer, work.env(), source, terminal);
            let outcome = tokio::select! {
                () = &mut asked_to_end => Err(BuildError::Cancelled),
                outcome = talk => outcome,
            };
            if let Err(BuildError::Cancelled | BuildError::Source(_)) = &outcome {
                // The connection may be gone, and the job with it.
                drop(timeout(GRACE, send(&mut writer, &ClientFrame::Signal(TERM))).await);
            }
            outcome
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &outcome
        && may_still_run(error)
    {
        drop(timeout(STOPPING, stop(work, slug)).await);
    }
    outcome
}

fn may_still_run(error: &BuildError) -> bool {
    match error {
        BuildError::Exit(_) | BuildError::Image(_) | BuildError::NoKey | BuildError::NoRelease => {
            false
        }
        BuildError::Start(_)
        | BuildError::Connection(_)
        | BuildError::Lost
        | BuildError::Frame(_)
        | BuildError::Host(_)
        | BuildError::Source(_)
        | BuildError::Cancelled => true,
    }
}

/// The job, as the controller is asked for it.
fn request(work: &Work<'_>, slug: &ArtifactId) -> Result<NewJob, BuildError> {
    let image = work.stack.builder(work.settings).map_err(BuildError::Image)?;
    let release = work.old_release().cloned().or_else(|| work.settings.own_release());
    let mut meta = BTreeMap::from([
        (controller_api::META_TYPE.to_owned(), BUILD_TYPE.to_owned()),
        (META_SLUG.to_owned(), slug.to_string()),
    ]);
    let own = work.settings.own_job().map(|job| (META_JOB.to_owned(), job.to_owned()));
    let push = std::env::var("RECEIVE_PUSH").ok().map(|push| (META_PUSH.to_owned(), push));
    meta.extend(own.into_iter().chain(push));
    Ok(NewJob {
        release: Some(release.ok_or(BuildError::NoRelease)?),
        artifacts: vec![image],
        args: vec!["/builder/build.sh".to_owned()],
        env: env(work, slug)?,
        meta,
        disable_log: true,
        partition: Some(Partition::Background),
        resources: resources(work),
        ..NewJob::default()
    })
}

fn env(work: &Work<'_>, slug: &ArtifactId) -> Result<BTreeMap<String, String>, BuildError> {
    let settings = work.settings;
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: &str| drop(env.insert(name.to_owned(), value.to_owned()));
    settings.build_env().for_each(|(name, value)| set(name, value));
    let (key, hosts) = settings.ssh();
    let ssh = [("SSH_CLIENT_KEY", key), ("SSH_CLIENT_HOSTS", hosts)];
    ssh.iter().for_each(|(name, value)| value.iter().for_each(|value| set(name, value)));
    if let Some(url) = work.env().get("BUILDPACK_URL") {
        set("BUILDPACK_URL", url);
    }
    let (stack, cf_stack) = work.stack.build_names();
    set("STACK", stack);
    set("CF_STACK", cf_stack);
    set("SOURCE_VERSION", &work.order.revision);
    set("SLUG_IMAGE_ID", slug.as_str());
    let app = &work.target.id;
    set("BUILD_CACHE_URL", &format!("{}/{app}-cache.tgz", settings.blobstore_url()));
    set("CONTROLLER_KEY", &token(work, slug)?);
    Ok(env)
}

/// In place of the cluster's key: good for this slug, and not for long.
fn token(work: &Work<'_>, slug: &ArtifactId) -> Result<String, BuildError> {
    let now = SystemClock::start().wall().since_epoch();
    let scope = BuildScope {
        app: work.target.id.clone(),
        artifact: slug.clone(),
        expires: kit_clock::Wall::from_epoch(now + BuildScope::LIFETIME),
    };
    work.settings.keys().mint(&scope).ok_or(BuildError::NoKey)
}

/// What the release states for builds, else the platform's default.
fn resources(work: &Work<'_>) -> Resources {
    let release = work.target.release.as_ref();
    let stated = release.and_then(|release| release.processes.get(BUILD_TYPE));
    let mut resources = stated.map(|process| process.resources.clone()).unwrap_or_default();
    if stated.is_none()
        && let Some(memory) = work.settings.default_memory()
        && let Ok(memory) = i64::try_from(memory.0)
    {
        resources.set(ResourceKind::Memory, Some(memory), Some(memory));
    }
    let scratch = resources.get(ResourceKind::TempDisk).limit;
    if scratch.is_none_or(|limit| limit == FILLED_IN_SCRATCH) {
        let scratch = i64::try_from(SCRATCH.0).ok();
        resources.set(ResourceKind::TempDisk, scratch, scratch);
    }
    resources
}

/// Sends the source and passes the output on until the job has ended.
async fn talk(
    reader: ReadHalf<Upgraded>,
    writer: &mut WriteHalf<Upgraded>,
    env: BTreeMap<String, String>,
    source: Source,
    terminal: &mut Terminal,
) -> Result<(), BuildError> {
    let mut listening = std::pin::pin!(listen(reader, terminal));
    let sent = tokio::select! {
        outcome = &mut listening => return outcome,
        sent = send_source(writer, env, source) => sent,
    };
    match sent {
        // A job that does not want all of it says why by its end.
        Ok(()) | Err(BuildError::Connection(_)) => listening.await,
        Err(error) => Err(error),
    }
}

async fn send_source(
    writer: &mut WriteHalf<Upgraded>,
    env: BTreeMap<String, String>,
    source: Source,
) -> Result<(), BuildError> {
    let (to, pieces) = pipe::writer();
    let reading = tokio::task::spawn_blocking(move || source.send(&env, to));
    let mut pieces = std::pin::pin!(pieces);
    while let Some(Ok(piece)) = pieces.next().await {
        send(writer, &ClientFrame::Stdin(piece)).await?;
    }
    let read = reading.await.map_err(std::io::Error::other).and_then(|read| read);
    // The end of the input is told only when it is the end of the source.
    read.map_err(BuildError::Source)?;
    Ok(send(writer, &ClientFrame::Stdin(bytes::Bytes::new())).await?)
}

async fn send(writer: &mut WriteHalf<Upgraded>, frame: &ClientFrame) -> std::io::Result<()> {
    writer.write_all(&frame.encode()).await?;
    writer.flush().await
}

async fn listen(mut reader: ReadHalf<Upgraded>, terminal: &mut Terminal) -> Result<(), BuildError> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = ServerFrame::decode(&mut buffer)? {
            match frame {
                ServerFrame::Data(Stream::Stdout, bytes) => terminal.output(&bytes).await,
                ServerFrame::Data(Stream::Stderr, bytes) => terminal.error_output(&bytes).await,
                ServerFrame::Data(Stream::Init, _) => {}
                ServerFrame::Exit(0) => return Ok(()),
                ServerFrame::Exit(status) => return Err(BuildError::Exit(status)),
                ServerFrame::Error(text) => return Err(BuildError::Host(text)),
            }
        }
        if reader.read_buf(&mut buffer).await? == 0 {
            return Err(BuildError::Lost);
        }
    }
}

/// Stops the job through the controller, which knows it as soon as the scheduler heard of it.
async fn stop(work: &Work<'_>, slug: &ArtifactId) {
    let app = work.target.id.as_str();
    loop {
        match work.controller.jobs(app).await {
            Ok(jobs) => {
                let ours = jobs
                    .iter()
                    .find(|job| job.meta.get(META_SLUG).map(String::as_str) == Some(slug.as_str()));
                match ours {
                    Some(job) if job.state.is_some_and(|state| !state.is_active()) => return,
                    Some(job) => {
                        let id = job.uuid.as_ref().map_or("", |uuid| uuid.as_str());
                        if work.controller.kill_job(app, id).await.is_ok() {
                            return;
                        }
                    }
                    None => {}
                }
            }
            Err(error) => tracing::debug!(%error, "the jobs cannot be listed"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
