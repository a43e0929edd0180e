//! `flynn-host watch`: a tiny parent that starts the daemon again when it dies. Jobs do not notice.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use kit_backoff::Backoff;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A daemon that lived this long was well.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Arguments of the daemon.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs the daemon until it ends well or this process is asked to end.
pub(crate) async fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe()?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let seed = u64::from(std::process::id());
    let mut pause = Backoff::new(Duration::from_millis(200), Duration::from_secs(30), seed);
    loop {
        let began = Instant::now();
        let mut child = Command::new(&program).arg("daemon").args(&args.args).spawn()?;
        let status = match until_signal(&mut child, &mut term, &mut int).await? {
            Some(status) => status,
            None => return Ok(ExitCode::SUCCESS),
        };
        if status.success() {
            return Ok(ExitCode::SUCCESS);
        }
        if began.elapsed() >= WELL_AFTER {
            pause.reset();
        }
        let delay = pause.next_delay();
        tracing::error!(%status, ?delay, "daemon ended; it is started again");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = term.recv() => return Ok(ExitCode::SUCCESS),
            _ = int.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// The daemon's status, or none when this process was asked to end; the daemon then has ended too.
async fn until_signal(
    child: &mut Child,
    term: &mut Signal,
    int: &mut Signal,
) -> anyhow::Result<Option<std::process::ExitStatus>> {
    let passed_on = tokio::select! {
        status = child.wait() => return Ok(Some(status?)),
        _ = term.recv() => rustix::process::Signal::TERM,
        _ = int.recv() => rustix::process::Signal::INT,
    };
    let pid =
        child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        rustix::process::kill_process(pid, passed_on)?;
    }
    child.wait().await?;
    Ok(None)
}
