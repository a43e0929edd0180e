//! `list`, `status`, `tags`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use discoverd_api::Client;

use crate::hosts::Hosts;
use crate::say;
use crate::table::{pairs, render, row};

/// Arguments of `tags`.
#[derive(Debug, Args)]
pub(crate) struct TagsArgs {
    #[command(subcommand)]
    command: Option<TagsCommand>,
}

#[derive(Debug, Subcommand)]
enum TagsCommand {
    /// Set tags: KEY=VALUE, or KEY for true.
    Set { host: String, tags: Vec<String> },
    /// Remove tags.
    Del { host: String, keys: Vec<String> },
}

pub(crate) async fn list(hosts: &Hosts) -> anyhow::Result<()> {
    let hosts = hosts.all().await?;
    if hosts.is_empty() {
        say("no hosts found\n");
        return Ok(());
    }
    let raft = raft().await;
    let mut rows = vec![row(["ID", "ADDR", "RAFT STATUS"])];
    rows.extend(hosts.iter().map(|host| {
        let ip = host.addr.split(':').next().unwrap_or_default();
        row([&host.id, &host.addr, raft.of(ip)])
    }));
    say(&render(&rows));
    Ok(())
}

pub(crate) async fn status(hosts: &Hosts) -> anyhow::Result<()> {
    for host in hosts.all().await? {
        let status = host.client.status().await?;
        say(&format!("{}\n", serde_json::to_string_pretty(&status)?));
    }
    Ok(())
}

pub(crate) async fn tags(args: TagsArgs, hosts: &Hosts) -> anyhow::Result<()> {
    let (host, tags) = match args.command {
        None => return show_tags(hosts).await,
        Some(TagsCommand::Set { host, tags }) => (host, host::parse_tags(&tags.join(","))),
        Some(TagsCommand::Del { host, keys }) => {
            (host, keys.into_iter().map(|key| (key, String::new())).collect::<BTreeMap<_, _>>())
        }
    };
    Ok(hosts.host(&host).await?.client.set_tags(&tags).await?)
}

async fn show_tags(hosts: &Hosts) -> anyhow::Result<()> {
    let mut rows = vec![row(["HOST", "TAGS"])];
    let hosts = hosts.all().await?;
    rows.extend(hosts.iter().map(|host| row([&host.id, &pairs(&host.tags)])));
    say(&render(&rows));
    Ok(())
}

/// Who votes in discoverd, by address; nothing where nobody can say.
#[derive(Debug, Default)]
struct Raft {
    peers: Vec<String>,
    leader: String,
}

impl Raft {
    fn of(&self, ip: &str) -> &'static str {
        let is_on = |url: &str| url.trim_start_matches("http://").split(':').next() == Some(ip);
        if self.peers.is_empty() {
            ""
        } else if is_on(&self.leader) {
            "peer (leader)"
        } else if self.peers.iter().any(|peer| is_on(peer)) {
            "peer"
        } else {
            "proxy"
        }
    }
}

async fn raft() -> Raft {
    let Ok(client) = Client::from_env() else { return Raft::default() };
    let within = std::time::Duration::from_secs(2);
    let peers = tokio::time::timeout(within, client.raft_peers()).await;
    let leader = tokio::time::timeout(within, client.raft_leader()).await;
    Raft {
        peers: peers.ok().and_then(Result::ok).unwrap_or_default(),
        leader: leader.ok().and_then(Result::ok).map(|leader| leader.host).unwrap_or_default(),
    }
}
