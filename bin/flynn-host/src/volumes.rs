//! `volume list`, `volume create`, `volume delete`.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use host_api::VolumeInfo;

use crate::hosts::Hosts;
use crate::say;
use crate::table::{pairs, render, row};

/// Arguments of `volume`.
#[derive(Debug, Args)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    command: VolumeCommand,
}

#[derive(Debug, Subcommand)]
enum VolumeCommand {
    /// List volumes, oldest first.
    List,
    /// Make a volume.
    Create {
        #[arg(long, default_value = "default")]
        provider: String,
        host: String,
    },
    /// Destroy volumes with all that is in them.
    Delete {
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

pub(crate) async fn run(args: VolumeArgs, hosts: &Hosts) -> anyhow::Result<()> {
    match args.command {
        VolumeCommand::List => list(hosts).await,
        VolumeCommand::Create { provider, host } => create(&provider, &host, hosts).await,
        VolumeCommand::Delete { ids } => delete(&ids, hosts).await,
    }
}

async fn list(hosts: &Hosts) -> anyhow::Result<()> {
    let mut volumes = Vec::new();
    for host in hosts.all().await? {
        let found = host.client.volumes().await?;
        volumes.extend(found.into_iter().map(|volume| (host.id.clone(), volume)));
    }
    volumes.sort_by_key(|(_, volume)| volume.created_at);
    let mut rows = vec![row(["ID", "TYPE", "HOST", "CREATED", "META"])];
    rows.extend(volumes.iter().map(|(host, volume)| {
        row([&volume.id, &volume.kind, host, &volume.created_at.to_string(), &pairs(&volume.meta)])
    }));
    say(&render(&rows));
    Ok(())
}

async fn create(provider: &str, host: &str, hosts: &Hosts) -> anyhow::Result<()> {
    let host = hosts.host(host).await.inspect_err(|_| {
        say(&format!("could not connect to host {host}\n"));
    })?;
    let volume = host.client.create_volume(provider, &VolumeInfo::default()).await?;
    say(&format!("created volume {} on {}\n", volume.id, host.id));
    Ok(())
}

async fn delete(ids: &[String], hosts: &Hosts) -> anyhow::Result<()> {
    let hosts = hosts.all().await?;
    let mut failed = false;
    for id in ids {
        let mut outcome = Err(anyhow!("volume not found"));
        for host in &hosts {
            match host.client.destroy_volume(id).await {
                Err(error) if error.is_not_found() => {}
                other => {
                    outcome = other.map_err(Into::into);
                    break;
                }
            }
        }
        match outcome {
            Ok(()) => say(&format!("{id} deleted\n")),
            Err(error) => {
                say(&format!("could not delete volume {id}: {error}\n"));
                failed = true;
            }
        }
    }
    if failed { Err(anyhow!("could not delete all volumes")) } else { Ok(()) }
}
