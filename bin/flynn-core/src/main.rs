//! The program of what costs something to restart: discovery, overlay, router, database drivers. It only
//! chooses; each component is a library.

mod component;
mod discoverd;
mod slice;

use std::time::Duration;

use anyhow::bail;
use clap::Parser as _;
use kit_tasks::{Running, Tasks};

/// How long components have to end after the process was asked to.
const GRACE: Duration = Duration::from_secs(20);

fn main() -> anyhow::Result<()> {
    let command = component::Arguments::parse();
    kit_telemetry::start();
    // Before there are threads, which inherit it.
    if command.is_waited_for()
        && let Err(error) = slice::shorten()
    {
        tracing::info!(%error, "no shorter slice of the processor");
    }
    run(command)
}

/// One worker: what these components do is short and waits for the disk and the network. Handed from thread to
/// thread, a registration costs discoverd half as much again (docs/benchmarks.md). The router's requests have threads
/// of their own.
#[tokio::main(worker_threads = 1)]
async fn run(command: component::Arguments) -> anyhow::Result<()> {
    kit_tls::install_provider();
    let tasks = Tasks::root("flynn-core");
    let ended = match component::start(command, &tasks).await {
        Ok(running) => until_the_end(&running).await,
        Err(error) => Err(error),
    };
    tasks.shutdown(GRACE).await;
    ended
}

/// The end is asked for, or the component's own: then whoever runs this program starts it again.
async fn until_the_end(running: &Running) -> anyhow::Result<()> {
    tokio::select! {
        asked = kit_tasks::terminate_signal() => asked?,
        () = running.tasks.stopping() => bail!("the component cannot go on and has to be started again"),
    }
    tracing::info!("asked to end");
    Ok(())
}
