//! Three processes of a store on loopback, ended with the value.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use cluster_tests::{PATIENCE, binaries};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::store::{Client, Kind};
use crate::figures::processor_time;

/// Longer than members that stood still may take to agree on who leads: until then the last leader still says
/// that it does, so that there is nothing to wait for.
const REST: Duration = Duration::from_secs(2);

/// One cluster.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) kind: Kind,
    /// Where the one that leads is.
    pub(crate) leader: usize,
    children: Vec<Child>,
    _dir: TempDir,
}

/// The address of the member with this number.
pub(crate) fn ip(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, u8::try_from(number + 1).unwrap_or(u8::MAX))
}

/// How many members there are.
pub(crate) const MEMBERS: usize = 3;

impl Members {
    /// Starts all members on empty disks and waits until one of them leads.
    pub(crate) async fn start(kind: Kind) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("flynn-t-registry-").tempdir_in("/var/tmp")?;
        let children = (0..MEMBERS)
            .map(|number| {
                let data = dir.path().join(number.to_string());
                std::fs::create_dir(&data)?;
                let mut command = match kind {
                    Kind::Discoverd => discoverd(number, &data)?,
                    Kind::Etcd => etcd(number, &data),
                };
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                command.spawn().with_context(|| format!("{kind:?} cannot start"))
            })
            .collect::<anyhow::Result<_>>()?;
        let mut members = Self { kind, leader: 0, children, _dir: dir };
        members.leader = members.wait_for_leader().await?;
        Ok(members)
    }

    /// Stands still while another store is measured: what it does by itself would be measured too.
    pub(crate) fn stand_still(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Goes on, and leads again: for a moment nobody had heard of anybody.
    pub(crate) async fn go_on(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)?;
        tokio::time::sleep(REST).await;
        self.leader = self.wait_for_leader().await?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        for child in &self.children {
            kill_process(Pid::from_child(child), signal).context("a member has ended")?;
        }
        Ok(())
    }

    async fn wait_for_leader(&self) -> anyhow::Result<usize> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            for number in 0..MEMBERS {
                let Ok(mut client) = Client::connect(self.kind, ip(number)).await else { continue };
                if client.leads().await.unwrap_or(false) {
                    return Ok(number);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("no member of {:?} leads", self.kind)
    }

    /// Seconds of processor time all members have had.
    pub(crate) fn processor_time(&self) -> f64 {
        let pids = self.children.iter().filter_map(|child| i32::try_from(child.id()).ok());
        pids.filter_map(processor_time).sum()
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn discoverd(number: usize, data: &Path) -> anyhow::Result<Command> {
    let peers: Vec<_> = (0..MEMBERS).map(|number| format!("{}:1111", ip(number))).collect();
    let own = ip(number).to_string();
    let mut command = Command::new(binaries()?.join("flynn-core"));
    command.arg("discoverd").arg("--data-dir").arg(data);
    command.args(["--host", &own, "--addr", &format!("{own}:1111"), "--peers", &peers.join(",")]);
    Ok(command)
}

fn etcd(number: usize, data: &Path) -> Command {
    let name = |number: usize| format!("n{number}");
    let client = format!("http://{}:2379", ip(number));
    let peer = |number: usize| format!("http://{}:2380", ip(number));
    let all: Vec<_> =
        (0..MEMBERS).map(|number| format!("{}={}", name(number), peer(number))).collect();
    let mut command = Command::new("etcd");
    command.args(["--name", &name(number)]).arg("--data-dir").arg(data);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer(number)]);
    command.args(["--initial-advertise-peer-urls", &peer(number)]);
    command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
    command
}
