//! The components this program can be, and how each is started.

use anyhow::Context as _;
use appliance_postgres::{peer, provision};
use clap::{Parser, Subcommand};
use kit_tasks::{Running, Tasks};

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
    /// The way from outside to apps: HTTP(S), WebSocket and TCP. Takes the router's own flags.
    Router {
        /// Such as -http-port 80; see the router's documentation.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// One PostgreSQL server, kept running; configured by its environment.
    Postgres,
    /// Makes databases for apps; configured by its environment.
    PostgresApi,
}

impl Arguments {
    /// Whether all of the cluster waits when this component does: leads are lost, names are not answered.
    pub(crate) fn is_waited_for(&self) -> bool {
        matches!(self.component, Component::Discoverd(_))
    }
}

/// Starts the chosen component below `tasks`.
pub(crate) async fn start(arguments: Arguments, tasks: &Tasks) -> anyhow::Result<Running> {
    let (name, running) = match arguments.component {
        Component::Discoverd(arguments) => {
            let running = ::discoverd::start(arguments.into_config()?, tasks).await;
            ("discoverd", running.context("discoverd cannot start")?)
        }
        Component::Overlay => {
            let running = overlay::start(overlay::Config::from_env(env)?, tasks).await;
            ("overlay", running.context("the overlay cannot start")?)
        }
        Component::Router { flags } => {
            let (config, deps) =
                (router::Config::read(&flags, &env)?, router::Deps::from_env(&env)?);
            let running = router::start(config, deps, tasks).await;
            ("router", running.context("the router cannot start")?)
        }
        Component::Postgres => {
            let discoverd = discoverd_api::Client::from_env()?;
            let running = peer::start(peer::Config::from_env(env)?, discoverd, tasks).await;
            ("postgres", running.context("PostgreSQL cannot be started")?)
        }
        Component::PostgresApi => {
            let running = provision::start(provision::Config::from_env(env)?, tasks).await;
            ("postgres-api", running.context("the database API cannot start")?)
        }
    };
    tracing::info!(component = name, addrs = ?running.addrs, "started");
    Ok(running)
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
