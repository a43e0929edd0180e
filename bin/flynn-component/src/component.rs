//! The components this program can be, and how each is started. All are configured by their
//! environment, which is their job's.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kit_clock::SystemClock;
use kit_tasks::{Running, Tasks};

/// One component of Flynn per process.
#[derive(Debug, Parser)]
#[command(name = "flynn-component", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) program: Program,
}

/// What this program can be.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Program {
    #[command(flatten)]
    Component(Component),
    /// Builds the source on standard input into a slug, and ends
    Builder,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Component {
    /// Apps, releases, formations and their events
    Controller,
    /// Deployments and what else is done in the background
    Worker,
    /// Keeps what runs equal to what is wanted
    Scheduler,
    /// Files by name for builds and hosts
    Blobstore,
    /// Pushes with git
    Gitreceive,
    /// The newest log lines of every app
    Logaggregator,
}

/// Starts the chosen component below `tasks`.
pub(crate) async fn start(component: Component, tasks: &Tasks) -> anyhow::Result<()> {
    let running = match component {
        Component::Controller => {
            let config = controller::Config::from_env(variable)?;
            controller::start(config, tasks).await.context("the controller cannot start")?
        }
        Component::Worker => {
            let config = controller::worker::Config::from_env(variable)?;
            controller::worker::start(config, tasks).await.context("the worker cannot start")?
        }
        Component::Scheduler => scheduler::start(scheduler_config()?, tasks)
            .await
            .context("the scheduler cannot start")?,
        Component::Blobstore => blobstore(tasks).await.context("the blobstore cannot start")?,
        Component::Gitreceive => {
            let config = gitreceive::Config::from_env(variables())?;
            gitreceive::start(config, tasks).await.context("gitreceive cannot start")?
        }
        Component::Logaggregator => {
            let config = logaggregator::Config::from_env(variable)?;
            logaggregator::start(config, tasks).await.context("the log aggregator cannot start")?
        }
    };
    tracing::info!(?component, addrs = ?running.addrs, "started");
    Ok(())
}

async fn blobstore(tasks: &Tasks) -> anyhow::Result<Running> {
    let config = blobstore::Config::from_env(variable)?;
    Ok(blobstore::start(config, Arc::new(SystemClock::start()), tasks).await?)
}

/// Where the controller is, as discoverd knows it.
const CONTROLLER: &str = "http://controller.discoverd";
/// How long a host may be silent before its jobs are started elsewhere.
const LOST_AFTER: Duration = Duration::from_secs(30);

fn scheduler_config() -> anyhow::Result<scheduler::Config> {
    let port: u16 = match variable("PORT") {
        Some(text) => text.parse().with_context(|| format!("PORT={text:?} is no port"))?,
        None => 3000,
    };
    let ip = variable("EXTERNAL_IP").context("EXTERNAL_IP is not set")?;
    Ok(scheduler::Config {
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        address: format!("{ip}:{port}"),
        controller_url: variable("CONTROLLER_URL").unwrap_or_else(|| CONTROLLER.to_owned()),
        controller_key: variable("CONTROLLER_KEY").context("CONTROLLER_KEY is not set")?,
        discoverd: discoverd_api::Servers::from_env(),
        lost_after: LOST_AFTER,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The environment, as far as it is text.
fn variables() -> impl Iterator<Item = (String, String)> {
    let text = |value: std::ffi::OsString| value.into_string().ok();
    std::env::vars_os().filter_map(move |(name, value)| Some((text(name)?, text(value)?)))
}
