//! From a source to a running release (spec/pipeline.md §4): a build job, a release of its slug, a
//! deployment, and the first job of an app that never ran. The hook and `flynn-receiver` do this.

mod build;
mod deploy;
mod follow;
mod release;
mod stack;

use std::collections::BTreeMap;

use controller_api::{App, Client, Release};
use kit_http::ClientError;
use kit_ids::{AppId, ArtifactId, ReleaseId};

use crate::settings::{Settings, SettingsError};
use crate::source::Source;
use crate::terminal::Terminal;
use build::BuildError;
use stack::Stack;

pub(crate) use build::{BUILD_TYPE, META_JOB, META_PUSH};

/// What is to be deployed where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The app's name or id.
    pub(crate) app: String,
    /// What the source is a revision of.
    pub(crate) revision: String,
    /// Variables on top of the app's.
    pub(crate) env: BTreeMap<String, String>,
    /// Metadata on top of the release's.
    pub(crate) meta: BTreeMap<String, String>,
}

/// Why it did not become a running release. The texts are what people see.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("Unknown app {0:?}")]
    UnknownApp(String),
    #[error("Error retrieving app")]
    App(#[source] ClientError),
    #[error("the controller answered an app without an id")]
    NoId,
    #[error("Error getting current app release")]
    CurrentRelease(#[source] ClientError),
    #[error("Unknown FLYNN_STACK: {0:?}")]
    UnknownStack(String),
    #[error("Error getting {image} image: {reason}")]
    Image { image: &'static str, reason: String },
    #[error("Build failed")]
    Build(#[from] BuildError),
    #[error("Error getting slug image")]
    Slug(#[source] ClientError),
    #[error("Error creating release")]
    CreateRelease(#[source] ClientError),
    #[error("Error deploying app release: {0}")]
    Deploy(String),
    #[error("{0}")]
    FirstJob(String),
    #[error("cancelled")]
    Cancelled,
}

/// The app as it is before.
#[derive(Debug)]
pub(crate) struct Target {
    app: App,
    id: AppId,
    release: Option<Release>,
}

/// What a stage works with.
struct Work<'a> {
    settings: &'a Settings,
    controller: Client,
    order: Order,
    target: Target,
    stack: Stack,
}

/// Builds and deploys. When this process is asked to end, the build job is stopped first.
pub(crate) async fn receive(
    settings: &Settings,
    order: Order,
    source: Source,
    terminal: &mut Terminal,
) -> Result<(), ReceiveError> {
    let controller = settings.controller()?;
    let mut asked_to_end = std::pin::pin!(asked_to_end());
    let work = tokio::select! {
        () = &mut asked_to_end => return Err(ReceiveError::Cancelled),
        work = prepare(settings, controller, order, terminal) => work?,
    };
    let slug = ArtifactId::random();
    let built = build::run(&work, &slug, source, terminal, asked_to_end.as_mut()).await;
    terminal.end_line().await;
    built?;
    tokio::select! {
        () = &mut asked_to_end => Err(ReceiveError::Cancelled),
        done = deploy(&work, &slug, terminal) => done,
    }
}

async fn asked_to_end() {
    if let Err(error) = kit_tasks::terminate_signal().await {
        tracing::warn!(%error, "signals cannot be heard");
        std::future::pending::<()>().await;
    }
}

async fn prepare<'a>(
    settings: &'a Settings,
    controller: Client,
    order: Order,
    terminal: &mut Terminal,
) -> Result<Work<'a>, ReceiveError> {
    let target = target(&controller, &order.app).await?;
    let stack = Stack::of(target.release.as_ref())?;
    for warning in stack.warnings() {
        terminal.say(warning).await;
    }
    for (image, id) in stack.images(settings) {
        let missing = |reason| ReceiveError::Image { image, reason };
        let id = id.map_err(missing)?;
        let found = controller.artifact(&id).await;
        found.map_err(|error| missing(crate::server::chain(&error)))?;
    }
    terminal.say(&format!("-----> Building {}...", target.app.name)).await;
    Ok(Work { settings, controller, order, target, stack })
}

async fn target(controller: &Client, name: &str) -> Result<Target, ReceiveError> {
    let app = controller.app(name).await.map_err(|error| {
        if error.is_not_found() {
            ReceiveError::UnknownApp(name.to_owned())
        } else {
            ReceiveError::App(error)
        }
    })?;
    let id = app.id.clone().ok_or(ReceiveError::NoId)?;
    let release = match controller.app_release(id.as_str()).await {
        Ok(release) => Some(release),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(ReceiveError::CurrentRelease(error)),
    };
    Ok(Target { app, id, release })
}

async fn deploy(
    work: &Work<'_>,
    slug: &ArtifactId,
    terminal: &mut Terminal,
) -> Result<(), ReceiveError> {
    let artifact = work.controller.artifact(slug).await.map_err(ReceiveError::Slug)?;
    terminal.say("-----> Creating release...").await;
    let release = release::of_slug(work, &artifact)?;
    let has_web = release.processes.contains_key("web");
    let created = work.controller.create_release(&release).await;
    let id = created.map_err(ReceiveError::CreateRelease)?.id.ok_or(ReceiveError::NoId)?;
    // Looked at before the deployment, which may make a formation.
    let is_first = has_web && never_scaled(work).await?;
    deploy::deploy(work, &id).await?;
    if is_first {
        deploy::scale_first(work, &id, terminal).await?;
    }
    terminal.say("=====> Application deployed").await;
    Ok(())
}

/// Whether nobody ever said how many jobs the app wants: its release has no formation. The release is the
/// one of now, not the one of the push's begin: a deployment that was under way then has taken the old
/// one's formation away.
async fn never_scaled(work: &Work<'_>) -> Result<bool, ReceiveError> {
    let failed = |error: ClientError| ReceiveError::Deploy(crate::server::chain(&error));
    let app = work.target.id.as_str();
    let mut looked_at = None;
    loop {
        let now = match work.controller.app_release(app).await {
            Ok(release) => release.id,
            Err(error) if error.is_not_found() => return Ok(true),
            Err(error) => return Err(failed(error)),
        };
        // Looked at twice, it has none; a release that came meanwhile is looked at, too.
        let Some(release) = now.filter(|now| looked_at.as_ref() != Some(now)) else {
            return Ok(true);
        };
        match work.controller.formation(app, &release).await {
            Ok(_) => return Ok(false),
            Err(error) if error.is_not_found() => looked_at = Some(release),
            Err(error) => return Err(failed(error)),
        }
    }
}

impl Work<'_> {
    /// The release before.
    fn old_release(&self) -> Option<&ReleaseId> {
        self.target.release.as_ref()?.id.as_ref()
    }

    /// The app's environment as the new release will have it.
    fn env(&self) -> BTreeMap<String, String> {
        let old = self.target.release.as_ref().map(|release| release.env.clone());
        let mut env = old.unwrap_or_default();
        env.extend(self.order.env.clone());
        env
    }
}
