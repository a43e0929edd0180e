//! `flynn-host daemon`: flags and configuration file to a running daemon.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, FromArgMatches as _};
use kit_ids::HostId;
use kit_tasks::Tasks;
use serde::Deserialize;

pub(crate) const CONFIG_FILE: &str = "/etc/flynn/host.json";

/// What builds talk to, each with a token of its own (design.md D5).
const BUILD_SERVICES: [&str; 2] = ["blobstore", "controller"];

/// The daemon's flags.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct DaemonArgs {
    /// Port of the API.
    #[arg(long, default_value_t = host_api::PORT)]
    http_port: u16,
    /// Address other hosts reach this one at; that of the default route if empty.
    #[arg(long)]
    external_ip: Option<Ipv4Addr>,
    /// Address to listen on, besides loopback; the external one if empty.
    #[arg(long)]
    listen_ip: Option<Ipv4Addr>,
    /// Addresses of other hosts of the cluster, or of members of the one to join.
    #[arg(long, value_delimiter = ',')]
    peer_ips: Vec<Ipv4Addr>,
    /// Gone: name the hosts by --peer-ips.
    #[arg(long, hide = true, value_name = "URL")]
    discovery: Option<String>,
    /// This host's id; its name without dashes if empty.
    #[arg(long)]
    id: Option<String>,
    /// Tags, as in disk=ssd,zone=a.
    #[arg(long, default_value = "")]
    tags: String,
    /// Stop all jobs of an earlier daemon.
    #[arg(long)]
    force: bool,
    /// Where state, layers, volumes and scratch disks are.
    #[arg(long, default_value = "/var/lib/flynn")]
    data_dir: PathBuf,
    /// Where logs of jobs are; <data-dir>/logs if empty.
    #[arg(long)]
    log_dir: Option<PathBuf>,
    /// The supervisor's program.
    #[arg(long, default_value = "/usr/local/bin/flynn-init")]
    flynn_init: PathBuf,
    /// The bridge jobs are on.
    #[arg(long, default_value = "flynnbr0")]
    bridge_name: String,
    /// The firewall's table.
    #[arg(long, default_value = "flynn")]
    nft_table: String,
    /// The folder of this host's cgroups.
    #[arg(long, default_value = "flynn")]
    cgroup_prefix: String,
    /// Do not restart jobs.
    #[arg(long)]
    no_resurrect: bool,
    /// Send all packets between jobs through bridge and firewall, where other rules of this machine see them.
    #[arg(long)]
    no_fast_path: bool,
    /// How many jobs may be in the making at one time.
    #[arg(long, default_value_t = 4)]
    max_job_concurrency: usize,
    /// CPU shares of the partitions.
    #[arg(long, default_value = host::DEFAULT_PARTITIONS)]
    partitions: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

/// Runs the daemon until it is asked to end. Must be called while the process has one thread.
pub(crate) fn run(args: DaemonArgs) -> anyhow::Result<()> {
    let (args, flags) = with_config_file(args)?;
    if args.discovery.is_some() {
        return Err(crate::init::NoDiscoveryServer.into());
    }
    std::fs::create_dir_all(&args.data_dir).context("cannot make the data directory")?;
    let pin = args.data_dir.join("ns").join("mnt");
    if let Some(folder) = pin.parent() {
        std::fs::create_dir_all(folder).context("cannot make the folder of the mount namespace")?;
    }
    host_container::enter_pinned_mount_namespace(&pin)
        .context("cannot enter the mount namespace")?;
    let (form, isolation) = host::probe(&args.data_dir).context("cannot probe the kernel")?;
    if isolation.userns == "off" {
        bail!("user namespaces do not work here: {}", isolation.reason);
    }
    let config = host::Config { flags, isolation, ..config(&args)? };
    let network = network_config(&args, &config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config, network, form, args.force))
}

async fn serve(
    config: host::Config,
    network: host_network::Config,
    form: host_image::Form,
    force: bool,
) -> anyhow::Result<()> {
    let tasks = Tasks::root("flynn-host");
    let nets = host::open_network(network).await.context("cannot open the network")?;
    let launcher = Arc::new(host::ExecLauncher { init_binary: config.init_binary.clone() });
    let clock = Arc::new(kit_clock::SystemClock::start());
    let deps = host::Deps { nets, launcher, clock, tasks, form };
    let daemon = host::start(config, deps).await?;
    if force {
        daemon.stop_jobs().await;
    }
    // On SIGTERM jobs go on and the next daemon takes them up; Ctrl-C ends them too.
    tokio::select! {
        ended = terminate() => ended?,
        ended = tokio::signal::ctrl_c() => {
            ended?;
            daemon.go_down().await;
        }
    }
    daemon.stop().await;
    Ok(())
}

async fn terminate() -> std::io::Result<()> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    term.recv().await;
    Ok(())
}

/// The file's arguments come after those of the command line.
fn with_config_file(args: DaemonArgs) -> anyhow::Result<(DaemonArgs, Vec<String>)> {
    let given: Vec<String> =
        std::env::args().skip(1).skip_while(|arg| arg != "daemon").skip(1).collect();
    let path = std::env::var("FLYNN_HOST_CONFIG").unwrap_or_else(|_| CONFIG_FILE.to_owned());
    let file: ConfigFile = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{path} is damaged"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => ConfigFile::default(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
    };
    // The supervisors' environment is theirs alone, so what the file sets is for the daemon's own
    // libraries; none of them reads any today.
    for name in file.env.keys() {
        tracing::warn!(%name, "environment of the configuration file is not used");
    }
    if file.args.is_empty() {
        return Ok((args, given));
    }
    let all: Vec<String> = given.iter().cloned().chain(file.args).collect();
    let command = DaemonArgs::augment_args(clap::Command::new("daemon")).no_binary_name(true);
    let matches =
        command.try_get_matches_from(&all).with_context(|| format!("arguments of {path}"))?;
    Ok((DaemonArgs::from_arg_matches(&matches)?, all))
}

/// The addresses of hosts that the configuration file names, this one's own too; none where there is no
/// such file, or none that can be read.
pub(crate) fn configured_addresses() -> Vec<Ipv4Addr> {
    let path = std::env::var("FLYNN_HOST_CONFIG").unwrap_or_else(|_| CONFIG_FILE.to_owned());
    let file = std::fs::read(path).ok();
    let file: Option<ConfigFile> = file.and_then(|text| serde_json::from_slice(&text).ok());
    let command = DaemonArgs::augment_args(clap::Command::new("daemon")).no_binary_name(true);
    let matches = file.and_then(|file| command.try_get_matches_from(file.args).ok());
    let args = matches.and_then(|matches| DaemonArgs::from_arg_matches(&matches).ok());
    args.map(|args| args.peer_ips.into_iter().chain(args.external_ip).collect()).unwrap_or_default()
}

fn config(args: &DaemonArgs) -> anyhow::Result<host::Config> {
    let external_ip = match args.external_ip {
        Some(ip) => ip,
        None => host_network::outward_address()
            .context("no --external-ip, and no default route to find it by")?,
    };
    let listen_ip = args.listen_ip.unwrap_or(external_ip);
    let mut listen = vec![SocketAddr::new(IpAddr::V4(listen_ip), args.http_port)];
    if !listen_ip.is_loopback() && !listen_ip.is_unspecified() {
        listen.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.http_port));
    }
    let defaults = host::Config::new(host_id(args)?, external_ip, args.data_dir.clone());
    Ok(host::Config {
        listen,
        log_dir: args.log_dir.clone().unwrap_or_else(|| args.data_dir.join("logs")),
        cgroup_prefix: args.cgroup_prefix.clone(),
        init_binary: args.flynn_init.clone(),
        partitions: host::parse_partitions(&args.partitions)?,
        max_job_concurrency: args.max_job_concurrency,
        peer_ips: args.peer_ips.clone(),
        tags: host::parse_tags(&args.tags),
        version: crate::version(false).to_owned(),
        resurrect: !args.no_resurrect,
        background_services: BUILD_SERVICES.map(str::to_owned).into(),
        ..defaults
    })
}

fn host_id(args: &DaemonArgs) -> anyhow::Result<HostId> {
    if let Some(id) = &args.id {
        if id.contains('-') {
            bail!("host id must not contain dashes");
        }
        return Ok(id.parse()?);
    }
    let name = rustix::system::uname();
    Ok(HostId::from_hostname(&name.nodename().to_string_lossy())?)
}

fn network_config(
    args: &DaemonArgs,
    config: &host::Config,
) -> anyhow::Result<host_network::Config> {
    let defaults = host_network::Config::new(args.data_dir.join("network"), config.external_ip);
    Ok(host_network::Config {
        bridge: args.bridge_name.parse()?,
        table: args.nft_table.parse()?,
        guarded_ports: defaults.guarded_ports.iter().copied().chain([args.http_port]).collect(),
        fast_path: !args.no_fast_path,
        ..defaults
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn later_arguments_win() {
        let command = DaemonArgs::augment_args(clap::Command::new("daemon")).no_binary_name(true);
        let args = ["--id", "a", "--tags", "x=y", "--id", "b"];
        let args = DaemonArgs::from_arg_matches(&command.get_matches_from(args)).unwrap();
        assert_eq!((args.id.as_deref(), args.tags.as_str()), (Some("b"), "x=y"));
        crate::Cli::command().debug_assert();
    }
}
