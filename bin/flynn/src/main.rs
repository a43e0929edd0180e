//! The flynn command: reads words, surroundings and terminal, and leaves the rest to the `cli` crate.

use std::process::ExitCode;

use anyhow::Context as _;
use cli::{Environment, Streams};

fn main() -> anyhow::Result<ExitCode> {
    cli::install_tls();
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let environment = Environment::of_process();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start")?;
    let (mut out, mut err, mut input) =
        (std::io::stdout(), std::io::stderr(), std::io::stdin().lock());
    let streams = Streams { out: &mut out, err: &mut err, input: &mut input };
    let status = runtime.block_on(cli::run(words, &environment, streams));
    // A task that still reads must not keep a command alive that has ended.
    runtime.shutdown_background();
    Ok(ExitCode::from(status))
}
