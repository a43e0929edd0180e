//! One host: its daemon, its client, its disk.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use harness::hosts::{Host, Hosts};
use host_api::{HostClient, NetworkConfig};
use serde::de::DeserializeOwned;

use crate::cluster::printed;

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) static TURN: Mutex<()> = Mutex::new(());

/// A host with its daemon. The last one to hold the host ends it.
#[derive(Debug)]
pub struct Node {
    /// The host.
    pub host: Arc<Host>,
    /// A client of its daemon; works inside the host's network namespace only.
    pub client: HostClient,
    daemon: Option<Child>,
}

/// Runs `test` on a fresh host whose jobs have a network, in a thread that lives in the host's network
/// namespace: the ports of the platform answer nobody else.
pub fn on_host<F, T>(id: &str, test: F)
where
    F: FnOnce(Node) -> T + Send,
    T: Future<Output = anyhow::Result<()>>,
{
    on_bare_host(id, async |node| {
        let network = NetworkConfig {
            subnet: "100.100.7.1/24".to_owned(),
            mtu: 1500,
            ..NetworkConfig::default()
        };
        node.client.configure_network(&network).await.with_context(|| node.log())?;
        test(node).await
    });
}

/// [`on_host`] before anybody gave the host a subnet, as a bootstrap finds it.
pub fn on_bare_host<F, T>(id: &str, test: F)
where
    F: FnOnce(Node) -> T + Send,
    T: Future<Output = anyhow::Result<()>>,
{
    on_prepared_host(id, |_node| Ok(()), test);
}

/// [`on_bare_host`] whose data directory holds only so much, written as mount(8) has it.
pub fn on_small_host<F, T>(id: &str, size: &str, test: F)
where
    F: FnOnce(Node) -> T + Send,
    T: Future<Output = anyhow::Result<()>>,
{
    let small = |node: &Node| {
        std::fs::create_dir_all(node.data_dir())?;
        let mut mount = node.host.command("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        node.success(mount.arg(node.data_dir()))
    };
    on_prepared_host(id, small, test);
}

fn on_prepared_host<F, T>(
    id: &str,
    prepare: impl FnOnce(&Node) -> anyhow::Result<()> + Send,
    test: F,
) where
    F: FnOnce(Node) -> T + Send,
    T: Future<Output = anyhow::Result<()>>,
{
    let _turn = turn();
    let host = Hosts::in_sandbox().and_then(|hosts| hosts.add(id)).expect("a host");
    let run = || {
        in_network(id, async {
            let mut node = Node::on(Arc::new(host))?;
            prepare(&node)?;
            node.boot().await?;
            test(node).await
        })
    };
    tell(std::thread::scope(|scope| scope.spawn(run).join()));
}

/// One test with hosts of its own at a time: what they need of the machine is what the next one waits for.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` in this thread, which from now on lives in the network of the host `id`.
pub(crate) fn in_network<T>(
    id: &str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    enter_network(id)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// A test's outcome in the words of the test harness.
pub(crate) fn tell(outcome: std::thread::Result<anyhow::Result<()>>) {
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error:?}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn network_of(id: &str) -> anyhow::Result<File> {
    File::open(Path::new("/run/netns").join(id)).with_context(|| format!("the network of {id}"))
}

fn enter_network(id: &str) -> anyhow::Result<()> {
    let namespace = network_of(id)?;
    // SAFETY: the descriptor is open for the length of the call; only this thread changes.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot enter the host's network");
    }
    Ok(())
}

/// The directory of the built programs.
pub fn binaries() -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe()?;
    let dir = me.ancestors().find(|dir| dir.join("flynn-host").is_file());
    dir.map(Path::to_owned).context("the programs are not built: cargo build --workspace")
}

impl Node {
    /// Starts the daemon of a new host, and gives it the image of the tests' own programs.
    pub(crate) async fn boot(&mut self) -> anyhow::Result<()> {
        self.start_daemon().await?;
        self.import("test-apps").await
    }

    /// A host whose daemon somebody else has started, or will start.
    pub(crate) fn on(host: Arc<Host>) -> anyhow::Result<Self> {
        let client = HostClient::new("http://127.0.0.1:1113")?;
        Ok(Self { host, client, daemon: None })
    }

    /// A host of a cluster, seen from another one of it.
    pub(crate) fn seen_from_another(host: Arc<Host>) -> anyhow::Result<Self> {
        let client = HostClient::new(&format!("http://{}:1113", host.ip))?;
        Ok(Self { host, client, daemon: None })
    }

    /// A `flynn-host` command on this host, about this host.
    pub fn flynn_host(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.operator(args)?;
        command.env("FLYNN_HOST_URL", "http://127.0.0.1:1113");
        Ok(command)
    }

    /// A `flynn-host` command on this host, about the cluster.
    pub fn operator(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.host.flynn_host(&binaries()?, args);
        command.env_remove("FLYNN_HOST_URL").env_remove("DISCOVERD");
        Ok(command)
    }

    /// Starts the daemon and waits until it answers.
    pub async fn start_daemon(&mut self) -> anyhow::Result<()> {
        self.daemon = Some(self.host.daemon(&binaries()?, "daemon")?.spawn()?);
        until("the daemon answers", async || self.client.status().await.is_ok())
            .await
            .with_context(|| self.log())
    }

    /// SIGKILL to the daemon alone.
    pub fn kill_daemon(&mut self) -> anyhow::Result<()> {
        if self.host.kill("flynn-host", "daemon") == 0 {
            bail!("there was no daemon to kill");
        }
        self.reap();
        Ok(())
    }

    /// Everything of the host ends at once; then the daemon is started.
    pub async fn power_cut(&mut self) -> anyhow::Result<()> {
        self.turn_off()?;
        self.start_daemon().await
    }

    /// Everything of the host ends at once.
    pub fn turn_off(&mut self) -> anyhow::Result<()> {
        self.host.power_cut()?;
        self.reap();
        Ok(())
    }

    fn reap(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }

    /// Imports a system image.
    pub async fn import(&self, name: &str) -> anyhow::Result<()> {
        let cache = std::env::var("FLYNN_CACHE").unwrap_or_else(|_| "/var/cache/flynn".to_owned());
        let image = harness::images::built(Path::new(&cache), name)?;
        let data = self.data_dir();
        let data = data.to_string_lossy();
        let mut command = self.flynn_host(&["image", "--data-dir", &data, "import", name])?;
        self.success(command.args(&image.layers))
    }

    /// The host's network.
    pub fn network(&self) -> anyhow::Result<File> {
        network_of(&self.host.id)
    }

    /// What this URL answers on this host; anything but a success is an error.
    pub fn get(&self, url: &str) -> anyhow::Result<String> {
        let mut curl = self.host.command("curl");
        printed(curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", url]))
    }

    /// What the host's own daemon (port 1113) or discoverd (port 1111) answers, whoever cannot reach it.
    pub fn ask<T: DeserializeOwned>(&self, port: u16, path: &str) -> anyhow::Result<T> {
        let answer = self.get(&format!("http://127.0.0.1:{port}{path}"))?;
        serde_json::from_str(&answer).with_context(|| format!("{path} of {}", self.host.id))
    }

    /// Runs a command that must succeed.
    pub fn success(&self, command: &mut Command) -> anyhow::Result<()> {
        let done = command.stdin(Stdio::null()).output()?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("{command:?}: {}: {said}\n{}", done.status, self.log());
        }
        Ok(())
    }

    /// The daemon's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.host.data_dir()
    }

    /// The end of the daemon's log, for messages.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.host.log_path()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The lines of the daemon's log with this text in them.
    pub fn log_lines(&self, text: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.host.log_path()).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if Arc::strong_count(&self.host) == 1 {
            // Whatever is left ends with the host's first process.
            drop(self.host.power_cut());
        }
        self.reap();
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let started = Instant::now();
    while !condition().await {
        if started.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} in vain until {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
