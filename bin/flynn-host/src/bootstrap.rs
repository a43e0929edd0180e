//! `flynn-host bootstrap`: options and output around the steps of the crate `bootstrap`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use bootstrap::{Options, StepEvent, StepState};
use clap::Args;

use crate::{Common, say};

/// Arguments of `bootstrap`.
#[derive(Debug, Args)]
pub(crate) struct BootstrapArgs {
    /// How many hosts there must be.
    #[arg(short = 'n', long)]
    min_hosts: Option<usize>,
    /// Seconds hosts may take to come up.
    #[arg(short, long, default_value_t = 120)]
    timeout: u64,
    /// One JSON object per event.
    #[arg(long)]
    json: bool,
    /// Start from a backup.
    #[arg(long)]
    from_backup: Option<PathBuf>,
    /// Addresses of the hosts.
    #[arg(long, value_delimiter = ',')]
    peer_ips: Vec<Ipv4Addr>,
    /// Gone: name the hosts by --peer-ips.
    #[arg(long, hide = true, value_name = "URL")]
    discovery: Option<String>,
    /// Only these steps.
    #[arg(long, value_delimiter = ',')]
    steps: Vec<String>,
    /// Seconds a job may take to start.
    #[arg(long, default_value_t = 30)]
    job_timeout: u64,
    /// Where finished steps and secrets are kept.
    #[arg(long, default_value = "/var/lib/flynn")]
    data_dir: PathBuf,
    /// A manifest of steps.
    manifest: Option<PathBuf>,
}

pub(crate) async fn run(args: BootstrapArgs, common: &Common) -> anyhow::Result<()> {
    if args.discovery.is_some() {
        return Err(crate::init::NoDiscoveryServer.into());
    }
    let mut options = Options::new(&args.data_dir);
    options.min_hosts = args.min_hosts;
    options.peer_ips = args.peer_ips;
    options.timeout = Duration::from_secs(args.timeout);
    options.job_timeout = Duration::from_secs(args.job_timeout);
    options.steps = args.steps;
    options.manifest = args.manifest;
    options.from_backup = args.from_backup;
    options.env = std::env::vars().collect();
    if let Some(url) = &common.host_url {
        options.local_host_url.clone_from(url);
    }
    let json = args.json;
    let mut done_before = 0_u32;
    let mut sink = |event: &StepEvent| match (json, event.is_news()) {
        (true, _) => say(&format!("{}\n", event.json_line())),
        (false, true) => say(&format!("{}\n", event.text_line())),
        (false, false) => {
            done_before += u32::from(event.was_done_before() && event.state == StepState::Done);
        }
    };
    let outcome = bootstrap::run(options, &mut sink).await?;
    if done_before > 0 {
        say(&format!("{done_before} steps were done before\n"));
    }
    if let Some(command) = outcome.cluster_add {
        say(&format!("bootstrapping complete; use the cluster with:\n{command}\n"));
    }
    Ok(())
}
