//! The components this program can be, and how each is started.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kit_tasks::Tasks;

use crate::discoverd;

/// One component of Flynn per process.
#[derive(Debug, Parser)]
#[command(name = "flynn-core", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    component: Component,
}

#[derive(Debug, Subcommand)]
enum Component {
    /// Service discovery: HTTP, event streams and DNS.
    Discoverd(Box<discoverd::Arguments>),
    /// The host's subnet in the cluster's network; configured by its environment.
    Overlay,
}

/// Starts the chosen component below `tasks`.
pub(crate) async fn start(arguments: Arguments, tasks: &Tasks) -> anyhow::Result<()> {
    match arguments.component {
        Component::Discoverd(arguments) => {
            let running = ::discoverd::start(arguments.into_config()?, tasks).await;
            listening("discoverd", &running.context("discoverd cannot start")?);
        }
        Component::Overlay => {
            let config = overlay::Config::from_env(|name| std::env::var(name).ok())?;
            let running = overlay::start(config, tasks).await;
            listening("overlay", &running.context("the overlay cannot start")?);
        }
    }
    Ok(())
}

fn listening(component: &str, running: &kit_tasks::Running) {
    tracing::info!(component, addrs = ?running.addrs, "started");
}
