//! Several hosts with daemons, discoverd on the first and an overlay on each, without a platform above.
//!
//! The test itself is in no host's network; it does what it has to do on a host in a thread that is.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, ensure};
use discoverd_api::{Client, Instance, Servers, ServiceConfig};
use harness::hosts::Hosts;
use host_api::{DiscoverdConfig, Job, Port, VolumeBinding, VolumeInfo};
use kit_ids::{HostId, JobId};

use crate::node::{Node, TURN, in_network, tell, until};

/// Hosts that know each other, each with a subnet.
#[derive(Debug)]
pub struct Several {
    /// The hosts; discoverd runs on the first.
    pub nodes: Vec<Node>,
}

/// Runs `test` on hosts with these ids, whose overlays use this backend.
pub fn on_hosts(
    ids: &[&str],
    backend: &str,
    test: impl FnOnce(Several) -> anyhow::Result<()> + Send,
) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let run = || {
        let hosts = Hosts::in_sandbox()?;
        let nodes: anyhow::Result<_> =
            ids.iter().map(|id| Node::on(Arc::new(hosts.add(id)?))).collect();
        let mut several = Several { nodes: nodes? };
        several.start(backend)?;
        test(several)
    };
    // A host's first process ends with the thread that started it.
    tell(std::thread::scope(|scope| scope.spawn(run).join()));
}

impl Several {
    fn start(&mut self, backend: &str) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            on(node, async |node| {
                node.boot().await?;
                node.import("core").await
            })?;
        }
        let addrs: Vec<_> =
            self.nodes.iter().map(|node| format!("{}:1113", node.host.ip)).collect();
        let url = format!("http://{}:1111", self.nodes[0].host.ip);
        on(&mut self.nodes[0], async |node| {
            let peers = ("DISCOVERD_PEERS", url.trim_start_matches("http://"));
            start_core(node, "discoverd", "CAP_NET_BIND_SERVICE", &[peers]).await?;
            let client = Client::new(&Servers::parse("http://127.0.0.1:1111"))?;
            until("discoverd answers", async || client.ping().await.is_ok()).await?;
            until("the hosts are admitted", async || {
                client.ensure_service("flynn-host", ServiceConfig::default()).await.is_ok()
            })
            .await?;
            // Each says so itself as soon as the first one lets it.
            for addr in &addrs {
                client.put_instance("flynn-host", &Instance::new("tcp", addr)).await?;
            }
            Ok(())
        })?;
        for node in &mut self.nodes {
            let url = url.clone();
            on(node, async |node| {
                let discoverd = DiscoverdConfig { url, ..DiscoverdConfig::default() };
                node.client.configure_discoverd(&discoverd).await?;
                start_core(node, "overlay", "CAP_NET_ADMIN", &[("BACKEND", backend)]).await
            })?;
        }
        let count = self.nodes.len();
        for node in &mut self.nodes {
            on(node, async |node| knows(node, count).await)?;
        }
        Ok(())
    }
}

/// Waits until a host has its subnet and knows so many hosts that have one.
pub async fn knows(node: &Node, hosts: usize) -> anyhow::Result<()> {
    let known = async || {
        let network = node.client.status().await.ok()?.network?;
        network.overlay.map(|overlay| overlay.hosts.len())
    };
    let all = until("the host knows all hosts", async || known().await == Some(hosts)).await;
    all.with_context(|| node.log())
}

/// Does something on a host: in its network, with a client of its own.
pub fn on<T: Send>(
    node: &mut Node,
    work: impl AsyncFnOnce(&mut Node) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let id = node.host.id.clone();
    let run = || {
        in_network(&id, async {
            // Connections of another runtime are of no use in this one.
            node.client = host_api::HostClient::new("http://127.0.0.1:1113")?;
            work(node).await
        })
    };
    let ended = std::thread::scope(|scope| scope.spawn(run).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Starts a component of layer 0 as a bootstrap does, with a volume that outlives it.
async fn start_core(
    node: &Node,
    component: &str,
    capability: &str,
    env: &[(&str, &str)],
) -> anyhow::Result<()> {
    let host: HostId = node.host.id.parse()?;
    let volume = node.client.create_volume("default", &VolumeInfo::default()).await?;
    let mut job = Job::new(JobId::random(&host));
    job.mountspecs = node.layers("core").await?;
    job.partition = "system".to_owned();
    job.resurrect = true;
    let config = &mut job.config;
    config.args = ["/bin/flynn-core", component].map(str::to_owned).to_vec();
    config.host_network = true;
    config.linux_capabilities = Some(vec![capability.to_owned()]);
    config.volumes = vec![VolumeBinding {
        target: "/data".to_owned(),
        volume: volume.id,
        writeable: true,
        delete_on_stop: false,
    }];
    config.env.insert("DISCOVERD".to_owned(), "none".to_owned());
    config.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Ok(node.client.add_job(&job).await?)
}

/// Starts a program of the test-apps image that listens on port 8080; gives its address.
pub async fn start_app(node: &Node, program: &str, partition: &str) -> anyhow::Result<String> {
    let mut job = node.job(&[program]).await?.job;
    job.partition = partition.to_owned();
    job.config.disable_log = false;
    job.config.ports = vec![Port { port: 8080, proto: "tcp".to_owned(), service: None }];
    node.client.add_job(&job).await?;
    let id = job.id.clone();
    let address = async || node.client.job(&id).await.ok().and_then(|job| job.internal_ip);
    until("the job has an address", async || address().await.is_some()).await?;
    let ip = address().await.context("it ended")?;
    let addr = format!("{ip}:8080");
    until("the job listens", async || tokio::net::TcpStream::connect(&addr).await.is_ok()).await?;
    Ok(addr)
}

/// Runs `work` in a thread that lives in the network of a job on this host: the first one that runs this
/// program of the test-apps image.
pub fn in_job<T: Send + 'static>(
    node: &Node,
    program: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    in_namespace(job_network(node, program)?, work)
}

/// The network of that job.
pub fn job_network(node: &Node, program: &str) -> anyhow::Result<File> {
    let pid = node.host.pids_in_jobs("test-apps", program).into_iter().next();
    let pid = pid.with_context(|| format!("no {program} runs on {}", node.host.id))?;
    Ok(File::open(format!("/proc/{pid}/ns/net"))?)
}

/// Runs `work` in a thread that lives in this network.
pub fn in_namespace<T: Send + 'static>(
    namespace: File,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    let (entered, answer) = sync_channel(1);
    let thread = std::thread::spawn(move || {
        // SAFETY: the descriptor is open for the length of the call; only this thread changes.
        let done = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        // Who did not wait for the answer wants no work either.
        let _ = entered.send(done);
        work()
    });
    ensure!(answer.recv()? == 0, "cannot enter the network");
    Ok(thread)
}
