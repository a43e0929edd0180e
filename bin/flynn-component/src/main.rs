//! The program of what costs nothing to restart: controller, scheduler, blobstore, log aggregator. It
//! only chooses; each component is a library.

mod component;

use std::time::Duration;

use clap::Parser as _;
use kit_tasks::Tasks;

/// How long components have to end after the process was asked to.
const GRACE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let command = component::Arguments::parse();
    kit_telemetry::start();
    kit_tls::install_provider();
    let tasks = Tasks::root("flynn-component");
    let started = component::start(command, &tasks).await;
    if started.is_ok() {
        kit_tasks::terminate_signal().await?;
        tracing::info!("asked to end");
    }
    tasks.shutdown(GRACE).await;
    started
}
