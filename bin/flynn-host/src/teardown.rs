//! `flynn-host teardown`: removes from this machine what a host that was ended left on it, except data.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

/// How long processes in our control groups may take to end once they were killed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `teardown`; as given to the daemon.
#[derive(Debug, Args)]
pub(crate) struct TeardownArgs {
    /// Where state, layers, volumes and scratch disks are.
    #[arg(long, default_value = "/var/lib/flynn")]
    data_dir: PathBuf,
    /// The bridge jobs are on.
    #[arg(long, default_value = "flynnbr0")]
    bridge_name: String,
    /// The firewall's table.
    #[arg(long, default_value = "flynn")]
    nft_table: String,
    /// The folder of this host's cgroups.
    #[arg(long, default_value = "flynn")]
    cgroup_prefix: String,
}

/// Ends what still runs, then removes control groups, links, firewall rules and mounts. The daemon must
/// have ended.
pub(crate) async fn run(args: TeardownArgs) -> anyhow::Result<()> {
    let cgroups = host_container::Cgroups::detect().context("cannot find the control groups")?;
    let prefix = args.cgroup_prefix.clone();
    let sweep = tokio::task::spawn_blocking(move || cgroups.sweep(&prefix, PATIENCE)).await?;
    sweep.context("cannot remove the control groups")?;
    let defaults = host_network::Config::new(args.data_dir.join("network"), Ipv4Addr::LOCALHOST);
    let config = host_network::Config {
        bridge: args.bridge_name.parse()?,
        table: args.nft_table.parse()?,
        fast_path: false,
        ..defaults
    };
    let network = host_network::Network::open(config).await.context("cannot open the network")?;
    network.teardown().await.context("cannot remove the network")?;
    let pin = args.data_dir.join("ns").join("mnt");
    if pin.exists() {
        host_container::remove_pinned_mount_namespace(&pin)
            .context("cannot remove the mount namespace")?;
    }
    Ok(())
}
