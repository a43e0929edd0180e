//! `flynn-host`: the daemon of a host and what operators do to a cluster. Short on purpose: it reads the
//! command line and chooses; the work is in the libraries.

mod bootstrap;
mod cluster;
mod daemon;
mod discover;
mod doctor;
mod drain;
mod fix;
mod forget;
mod hosts;
mod image;
mod init;
mod jobs;
mod members;
mod run;
mod start;
mod table;
mod teardown;
mod volumes;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "flynn-host", about = "The host daemon and the operator's commands.", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Talk to this host only, without service discovery, as in http://192.0.2.10:1113.
    #[arg(long, global = true, env = "FLYNN_HOST_URL", value_name = "URL")]
    host_url: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the daemon's configuration file.
    Init(init::InitArgs),
    /// Run the daemon of this host.
    Daemon(Box<daemon::DaemonArgs>),
    /// Run the daemon and start it again when it dies; for machines without systemd.
    Watch(watch::WatchArgs),
    /// Start the daemon in the background, or replace one of another version; jobs run on.
    Start(start::StartArgs),
    /// Bring up the platform on running daemons.
    Bootstrap(bootstrap::BootstrapArgs),
    /// Run a job and show what it prints.
    Run(run::RunArgs),
    /// List jobs.
    Ps(jobs::PsArgs),
    /// Stop jobs.
    Stop(jobs::StopArgs),
    /// Send a signal to a job.
    Signal(jobs::SignalArgs),
    /// Show everything about a job.
    Inspect(jobs::InspectArgs),
    /// Show a job's log.
    Log(run::LogArgs),
    /// List hosts.
    List,
    /// Show what a host says about itself.
    Status,
    /// Say what is wrong with the cluster, why it matters, and what to type next; change nothing.
    Doctor(doctor::DoctorArgs),
    /// Say what is wrong, and offer the last resort for what does not heal by itself.
    Fix(fix::FixArgs),
    /// Show services of discoverd and their instances.
    Discover(discover::DiscoverArgs),
    /// Show or change hosts' tags.
    Tags(cluster::TagsArgs),
    /// Let other hosts into the cluster, before they are started.
    Admit(members::MemberArgs),
    /// Remove what hosts that left the cluster have in it, and let them no longer reach it.
    Forget(forget::ForgetArgs),
    /// Move a host's jobs to the others, as before its end, and wait until they have.
    Drain(drain::DrainArgs),
    /// Let a discoverd vote.
    Promote(members::PromoteArgs),
    /// Let a discoverd vote no longer.
    Demote(members::DemoteArgs),
    /// List, create or delete volumes.
    Volume(volumes::VolumeArgs),
    /// Import or list images of this host.
    Image(image::ImageArgs),
    /// Remove what an ended host left on this machine, except its data.
    Teardown(teardown::TeardownArgs),
    /// Show the version.
    Version(VersionArgs),
}

#[derive(Debug, Args)]
struct VersionArgs {
    /// Without the commit.
    #[arg(long)]
    release: bool,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and wrong usage both go to standard output, as they always did.
            say(&error.render().to_string());
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    kit_telemetry::start();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(std::io::stderr(), "{} flynn-host: {error:#}", clock());
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Command::Daemon(args) = cli.command {
        // Before any thread exists: it enters a mount namespace.
        return daemon::run(*args).map(|()| ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(client_command(cli));
    // A read of standard input may be under way; it must not hold the exit up.
    runtime.shutdown_background();
    code
}

async fn client_command(cli: Cli) -> anyhow::Result<ExitCode> {
    let hosts = hosts::Hosts::new(&cli.common);
    match cli.command {
        Command::Daemon(_) => {}
        Command::Watch(args) => return watch::run(args).await,
        Command::Start(args) => start::run(args).await?,
        Command::Bootstrap(args) => bootstrap::run(args, &cli.common).await?,
        Command::Run(args) => return run::run(args, &hosts).await,
        Command::Log(args) => return run::log(args, &hosts).await,
        Command::Ps(args) => jobs::ps(&args, &hosts).await?,
        Command::Stop(args) => jobs::stop(&args, &hosts).await?,
        Command::Signal(args) => jobs::signal(&args, &hosts).await?,
        Command::Inspect(args) => jobs::inspect(&args, &hosts).await?,
        Command::List => cluster::list(&hosts).await?,
        Command::Doctor(args) => return Ok(doctor::run(args, &cli.common).await),
        Command::Fix(args) => return fix::run(args, &cli.common).await,
        Command::Discover(args) => discover::run(&args).await?,
        Command::Status => cluster::status(&hosts).await?,
        Command::Tags(args) => cluster::tags(args, &hosts).await?,
        Command::Init(args) => init::run(&args)?,
        Command::Admit(args) => members::admit(args, &hosts).await?,
        Command::Forget(args) => forget::run(args, &hosts).await?,
        Command::Drain(args) => drain::run(args, &hosts, &cli.common).await?,
        Command::Promote(args) => members::promote(args).await?,
        Command::Demote(args) => members::demote(args).await?,
        Command::Volume(args) => volumes::run(args, &hosts).await?,
        Command::Image(args) => image::run(args).await?,
        Command::Teardown(args) => teardown::run(args).await?,
        Command::Version(args) => say(&format!("{}\n", version(args.release))),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints; a reader that left ends the program's output, not the program.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

pub(crate) fn version(release: bool) -> &'static str {
    let full = env!("CARGO_PKG_VERSION");
    if release { full.split('-').next().unwrap_or(full) } else { full }
}

fn clock() -> String {
    chrono::Local::now().format("%H:%M:%S%.6f").to_string()
}
