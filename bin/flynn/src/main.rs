//! The flynn command: reads words, surroundings and terminal, and leaves the rest to the `cli` crate.

use std::process::ExitCode;

use anyhow::Context as _;
use cli::{Environment, Streams};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<ExitCode> {
    cli::install_tls();
    let words =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let environment = Environment::of_process();
    end_on_signal()?;
    let runtime = current_thread()?;
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut input = std::io::BufReader::new(std::io::stdin());
    let streams = Streams { out: &mut out, err: &mut err, input: &mut input };
    let status = runtime.block_on(cli::run(words, &environment, streams));
    // A task that still reads must not keep a command alive that has ended.
    runtime.shutdown_background();
    Ok(ExitCode::from(status))
}

/// SIGINT and SIGTERM end any command silently with status 0, as they always have, but one that has
/// handed them to a job. A thread of its own waits for them, because a command that asks a question
/// blocks the first one.
fn end_on_signal() -> anyhow::Result<()> {
    let runtime = current_thread()?;
    let wait = move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if !cli::signals_are_taken() {
                    std::process::exit(0);
                }
            }
        });
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .context("could not start")?;
    Ok(())
}

fn current_thread() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("could not start")
}
