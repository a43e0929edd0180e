//! A platform over several hosts. Images are on the first one only: the others fetch layers from it.

use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use harness::hosts::{Host, Hosts};

use crate::node::{Node, binaries, in_network, tell, turn};
use crate::platform::{IMAGES, Platform};

/// Each host's disk. Blocks nobody wrote cost nothing.
const DISK: &str = "8G";

/// The platform of several hosts. Clients of all of them work in the network of the first.
#[derive(Debug)]
pub struct Cluster {
    /// The first host, and what the bootstrap there made.
    pub platform: Platform,
    /// The other hosts.
    pub others: Vec<Node>,
    /// What they hang on.
    pub network: Hosts,
    prefix: String,
}

/// Runs `test` on a bootstrapped cluster of its own with `count` hosts, named PREFIX1, PREFIX2, ….
pub fn on_cluster<F, T>(prefix: &str, count: usize, test: F)
where
    F: FnOnce(Cluster) -> T + Send,
    T: Future<Output = anyhow::Result<()>>,
{
    on_hosts(prefix, count, async |network, nodes| {
        test(Cluster::bootstrap(prefix, network, nodes).await?).await
    });
}

/// Runs `test` on `count` hosts whose daemons know each other, and no more than that.
fn on_hosts<F, T>(prefix: &str, count: usize, test: F)
where
    F: FnOnce(Hosts, Vec<Node>) -> T + Send,
    T: Future<Output = anyhow::Result<()>>,
{
    let _turn = turn();
    let network = Hosts::in_sandbox().expect("a sandbox");
    let hosts: Vec<_> = (1..=count)
        .map(|number| Arc::new(new_host(&network, &format!("{prefix}{number}")).expect("a host")))
        .collect();
    let run = || {
        let first = hosts[0].id.clone();
        in_network(&first, async move {
            let peers: Vec<_> = hosts.iter().map(|host| host.ip).collect();
            let mut nodes = Vec::new();
            for host in hosts {
                host.init(&binaries()?, &peers)?;
                let mut node = Node::seen_from_another(host)?;
                node.start_daemon().await?;
                nodes.push(node);
            }
            test(network, nodes).await
        })
    };
    tell(std::thread::scope(|scope| scope.spawn(run).join()));
}

fn new_host(network: &Hosts, id: &str) -> anyhow::Result<Host> {
    let host = network.add(id)?;
    host.bound_disk(DISK)?;
    Ok(host)
}

impl Node {
    /// Puts a new, empty disk into a host of a cluster that is off.
    pub fn lose_disk(&self) -> anyhow::Result<()> {
        self.host.lose_disk(DISK)
    }
}

impl Cluster {
    async fn bootstrap(prefix: &str, network: Hosts, mut nodes: Vec<Node>) -> anyhow::Result<Self> {
        let others = nodes.split_off(1);
        let first = nodes.pop().context("a cluster has hosts")?;
        for image in IMAGES.iter().chain(&["test-apps"]) {
            first.import(image).await?;
        }
        let all = std::iter::once(&first).chain(&others);
        let ips: Vec<_> = all.map(|node| node.host.ip.to_string()).collect();
        let (count, ips) = (ips.len().to_string(), ips.join(","));
        let platform =
            Platform::bootstrap_with(first, &["--min-hosts", &count, "--peer-ips", &ips]).await;
        let logs = || others.iter().map(|node| format!("{}:\n{}\n", node.host.id, node.log()));
        let platform = platform.with_context(|| logs().collect::<String>())?;
        Ok(Self { platform, others, network, prefix: prefix.to_owned() })
    }

    /// All hosts.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.platform.node).chain(&self.others)
    }

    /// Admits one more host and starts it; it joins by itself.
    pub async fn add(&mut self) -> anyhow::Result<&mut Node> {
        let id = format!("{}{}", self.prefix, self.others.len() + 2);
        let peers: Vec<_> = self.nodes().map(|node| node.host.ip).collect();
        let host = Arc::new(new_host(&self.network, &id)?);
        self.operator(&["admit", &host.ip.to_string()])?;
        host.init(&binaries()?, &peers)?;
        let mut node = Node::seen_from_another(host)?;
        node.start_daemon().await?;
        self.others.push(node);
        self.others.last_mut().context("it was just added")
    }

    /// A host by its place: 0 is the first one.
    pub fn node_mut(&mut self, place: usize) -> anyhow::Result<&mut Node> {
        match place.checked_sub(1) {
            None => Ok(&mut self.platform.node),
            Some(place) => self.others.get_mut(place).context("no such host"),
        }
    }

    /// Runs a `flynn-host` command about the cluster on the first host; gives what it printed.
    pub fn operator(&self, args: &[&str]) -> anyhow::Result<String> {
        let node = &self.platform.node;
        printed(&mut node.operator(args)?).with_context(|| node.log())
    }

    /// Runs `flynn` on one of the hosts, whose own router answers; gives what it printed.
    pub fn flynn_on(&self, node: &Node, args: &[&str]) -> anyhow::Result<String> {
        let (mut flynn, home) = (node.host.command(binaries()?.join("flynn")), &self.platform.home);
        printed(flynn.args(args).env("HOME", home).env("FLYNNRC", home.join("flynnrc")))
    }
}

/// What a command printed, which must succeed.
pub(crate) fn printed(command: &mut Command) -> anyhow::Result<String> {
    let done = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{command:?}: {}: {said}{errors}", done.status);
    Ok(said)
}
