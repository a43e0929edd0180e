//! The program of what costs nothing to restart: controller, scheduler, blobstore, gitreceive, log
//! aggregator, and the builder of build jobs. It only chooses; each component is a library. Started as
//! git's hook or as `flynn-receiver` it is those.

mod builder_job;
mod component;

use std::time::Duration;

use clap::Parser as _;
use component::{Component, Program};
use kit_tasks::Tasks;

/// How long components have to end after the process was asked to.
const GRACE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if let Some(role) = gitreceive::role(&name.to_string_lossy()) {
        kit_tls::install_provider();
        let status = gitreceive::play(role, args).await;
        // A thread may still wait for input; nothing else is left to do.
        std::process::exit(status.into());
    }
    let arguments = component::Arguments::parse();
    kit_tls::install_provider();
    match arguments.program {
        Program::Component(component) => run(component).await,
        Program::Builder => builder_job::run().await,
    }
}

async fn run(component: Component) -> anyhow::Result<()> {
    kit_telemetry::start();
    let tasks = Tasks::root("flynn-component");
    let started = component::start(component, &tasks).await;
    if started.is_ok() {
        kit_tasks::terminate_signal().await?;
        tracing::info!("asked to end");
    }
    tasks.shutdown(GRACE).await;
    started
}
