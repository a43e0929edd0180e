//! Who is let into the cluster and who votes in it: `admit`, `promote`, `demote`.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use discoverd_api::{Client, Servers};
use host_api::MemberChange;

use crate::hosts::Hosts;
use crate::say;

/// discoverd's port where an address names none.
const DISCOVERD_PORT: u16 = 1111;
/// How long a server may take to answer a ping.
const PING: Duration = Duration::from_secs(5);

/// Arguments of `admit`.
#[derive(Debug, Args)]
pub(crate) struct MemberArgs {
    /// Addresses of hosts.
    #[arg(required = true)]
    ips: Vec<Ipv4Addr>,
}

/// Arguments of `promote`.
#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    /// IP, IP:PORT or URL of a discoverd.
    addr: String,
}

/// Arguments of `demote`.
#[derive(Debug, Args)]
pub(crate) struct DemoteArgs {
    /// Have the others remove it, when it does not answer.
    #[arg(short, long)]
    force: bool,
    /// IP, IP:PORT or URL of a discoverd.
    addr: String,
}

pub(crate) async fn admit(args: MemberArgs, hosts: &Hosts) -> anyhow::Result<()> {
    tell_all(hosts, &MemberChange { add: args.ips, remove: Vec::new() }).await
}

/// Every host that answers; a host that is away hears of a new one from discoverd.
pub(crate) async fn tell_all(hosts: &Hosts, change: &MemberChange) -> anyhow::Result<()> {
    let hosts = hosts.all().await?;
    let mut told = 0_usize;
    for host in &hosts {
        match host.client.change_members(change).await {
            Ok(()) => told += 1,
            Err(error) => say(&format!("could not tell host {}: {error}\n", host.id)),
        }
    }
    if told == 0 {
        bail!("no host was told");
    }
    say(&format!("told {told} of {} hosts\n", hosts.len()));
    Ok(())
}

pub(crate) async fn promote(args: PromoteArgs) -> anyhow::Result<()> {
    let url = url_of(&args.addr);
    let promotion = Client::new(&Servers::parse(&url))?.promote().await;
    promotion.with_context(|| format!("cannot promote {url}"))?;
    log(&format!("Promoted peer {url}"));
    note();
    Ok(())
}

pub(crate) async fn demote(args: DemoteArgs) -> anyhow::Result<()> {
    let url = url_of(&args.addr);
    log("Attempting to gracefully demote peer.");
    let server = Client::new(&Servers::parse(&url))?;
    let pinged = tokio::time::timeout(PING, server.ping()).await;
    if matches!(pinged, Ok(Ok(()))) {
        server.demote().await.with_context(|| format!("cannot demote {url}"))?;
        log(&format!("Demoted peer {url}"));
    } else if args.force {
        let peer = url.trim_start_matches("http://");
        let removal = Client::from_env()?.remove_peer(peer).await;
        removal.with_context(|| format!("cannot remove {url}"))?;
        log(&format!("Forcefully removed peer {url}"));
    } else {
        bail!("Failed to contact peer to attempt graceful demotion and --force not given.");
    }
    note();
    Ok(())
}

fn note() {
    log("Servers that start anew on an empty disk follow DISCOVERD_PEERS in the release of app \
         discoverd: update it when the voters stay like this.");
}

/// Lines about what was done go to standard error, with their date.
#[expect(clippy::print_stderr, reason = "as the original has it")]
fn log(text: &str) {
    eprintln!("{} {text}", chrono::Local::now().format("%Y/%m/%d %H:%M:%S"));
}

/// `192.0.2.1`, `192.0.2.1:1111` or a URL as a URL with a port.
fn url_of(addr: &str) -> String {
    let addr = addr.trim_start_matches("http://").trim_end_matches('/');
    let port =
        addr.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
    match port {
        Some(_) => format!("http://{addr}"),
        None => format!("http://{addr}:{DISCOVERD_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_port_of_discoverd() {
        for (addr, url) in [
            ("192.0.2.1", "http://192.0.2.1:1111"),
            ("192.0.2.1:1112", "http://192.0.2.1:1112"),
            ("http://192.0.2.1:1111/", "http://192.0.2.1:1111"),
            ("http://host1", "http://host1:1111"),
        ] {
            assert_eq!(url_of(addr), url);
        }
    }
}
