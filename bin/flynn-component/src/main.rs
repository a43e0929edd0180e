//! The program of what costs nothing to restart: controller, scheduler, blobstore, log aggregator, and
//! the builder of build jobs. It only chooses; each component is a library.

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
