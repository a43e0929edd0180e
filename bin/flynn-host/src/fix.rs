//! `flynn-host fix`: the diagnosis of `doctor`, and a last resort for the one thing that nothing brings back:
//! a discoverd whose quorum is gone for good. Without `--rebuild-discoverd` it changes nothing.

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use discoverd_api::{Client, DiscoverdError, Servers};
use kit_http::ErrorCode;

use crate::doctor::{DISCOVERD_PORT, Diagnosis, LostQuorum};
use crate::{Common, doctor, say};

/// What is typed to confirm.
const WORD: &str = "rebuild";
/// How long the new cluster may take: its host starts discoverd again after less than a minute.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `fix`.
#[derive(Debug, Args)]
pub(crate) struct FixArgs {
    /// How many hosts must answer before anything is done.
    #[arg(short = 'n', long, value_name = "N")]
    min_hosts: Option<String>,
    /// Hosts to ask besides those that are found.
    #[arg(long, value_delimiter = ',')]
    peer_ips: Vec<Ipv4Addr>,
    /// Where discoverd's quorum is gone for good: let a survivor begin a new cluster with what it knows.
    #[arg(long)]
    rebuild_discoverd: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(args: FixArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let min_hosts = match args.min_hosts.as_deref().map(str::parse::<usize>) {
        None => 0,
        Some(Ok(count @ 1..)) => count,
        Some(Ok(0) | Err(_)) => bail!("invalid or missing --min-hosts value"),
    };
    let diagnosis = doctor::examine(common, &args.peer_ips).await;
    say(&diagnosis.text());
    let Some(lost) = diagnosis.lost_quorum() else {
        return Ok(nothing_lost(&diagnosis, args.rebuild_discoverd));
    };
    say(&last_resort(&diagnosis, &lost));
    if !args.rebuild_discoverd {
        return Ok(ExitCode::FAILURE);
    }
    let answering = diagnosis.answering();
    if answering < min_hosts {
        bail!("{answering} hosts answer, and --min-hosts asks for {min_hosts}: nothing was done");
    }
    if !args.yes && !confirmed()? {
        bail!("not confirmed: nothing was done");
    }
    let survivor = rebuild(&lost).await?;
    until_it_leads(survivor).await?;
    say(&afterwards(&diagnosis, &lost, survivor));
    Ok(ExitCode::SUCCESS)
}

fn nothing_lost(diagnosis: &Diagnosis, wanted: bool) -> ExitCode {
    if wanted {
        say("discoverd's quorum is not lost: nothing was rebuilt\n");
    } else if !diagnosis.is_healthy() {
        say("nothing here needs a last resort: do what stands behind \"next\"\n");
    }
    ExitCode::from(u8::from(wanted || !diagnosis.is_healthy()))
}

fn last_resort(diagnosis: &Diagnosis, lost: &LostQuorum) -> String {
    let silent = diagnosis.names_of(&lost.silent);
    format!(
        "\nLast resort, only if {silent} never come back as they were:\n    flynn-host fix \
         --rebuild-discoverd\nOne of the servers that answer then begins a new cluster with what it knows. What \
         only the lost ones\nknew is lost. Their disks must be emptied before they are started again: a \
         majority of them\ntogether would go on as the old cluster.\n"
    )
}

fn confirmed() -> anyhow::Result<bool> {
    say(&format!("type {WORD} to go on: "));
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the answer")?;
    Ok(line.trim() == WORD)
}

/// The first survivor that does not refuse because another one knows more.
async fn rebuild(lost: &LostQuorum) -> anyhow::Result<Ipv4Addr> {
    let silent: BTreeSet<_> = lost.silent.iter().map(|ip| address(*ip)).collect();
    let mut refusals = Vec::new();
    for ip in &lost.survivors {
        let client = Client::new(&Servers::parse(&address(*ip)))?;
        match client.rebuild(silent.clone()).await {
            Ok(()) => return Ok(*ip),
            Err(error) if is_refusal(&error) => refusals.push(format!("{ip}: {error}")),
            Err(error) => return Err(error).with_context(|| format!("{ip} was not rebuilt")),
        }
    }
    bail!("no survivor can be rebuilt from:\n{}", refusals.join("\n"));
}

fn is_refusal(error: &DiscoverdError) -> bool {
    error.code() == Some(ErrorCode::Conflict)
}

async fn until_it_leads(survivor: Ipv4Addr) -> anyhow::Result<()> {
    say(&format!("{survivor} begins a new cluster; waiting until it leads\n"));
    let client = Client::new(&Servers::parse(&address(survivor)))?;
    let leads = async {
        loop {
            if client.raft_leader().await.is_ok_and(|leader| leader.host == address(survivor)) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, leads)
        .await
        .with_context(|| format!("{survivor} does not lead yet: see `flynn-host ps` and its log"))
}

fn afterwards(diagnosis: &Diagnosis, lost: &LostQuorum, survivor: Ipv4Addr) -> String {
    let list: Vec<_> = lost.silent.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "discoverd is led by {} again. Next:\n    flynn-host forget {}   # nothing of them stays\n",
        diagnosis.names_of(&[survivor].into()),
        list.join(" "),
    );
    for ip in lost.survivors.iter().filter(|ip| **ip != survivor) {
        text.push_str(&format!("    flynn-host promote {ip}   # it has no vote now\n"));
    }
    text.push_str("    flynn-host doctor\n");
    text
}

fn address(ip: Ipv4Addr) -> String {
    format!("{ip}:{DISCOVERD_PORT}")
}
