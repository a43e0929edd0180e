//! The components this program can be, and how each is started. All are configured by their
//! environment, which is their job's.

use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kit_clock::SystemClock;
use kit_tasks::{Running, Tasks};

/// One component of Flynn per process.
#[derive(Debug, Parser)]
#[command(name = "flynn-component", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    component: Component,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Component {
    /// Files by name for builds and hosts
    Blobstore,
    /// The newest log lines of every app
    Logaggregator,
}

/// Starts the chosen component below `tasks`.
pub(crate) async fn start(arguments: Arguments, tasks: &Tasks) -> anyhow::Result<()> {
    let running = match arguments.component {
        Component::Blobstore => blobstore(tasks).await.context("the blobstore cannot start")?,
        Component::Logaggregator => {
            let config = logaggregator::Config::from_env(variable)?;
            logaggregator::start(config, tasks).await.context("the log aggregator cannot start")?
        }
    };
    tracing::info!(component = ?arguments.component, addrs = ?running.addrs, "started");
    Ok(())
}

async fn blobstore(tasks: &Tasks) -> anyhow::Result<Running> {
    let config = blobstore::Config::from_env(variable)?;
    Ok(blobstore::start(config, Arc::new(SystemClock::start()), tasks).await?)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
