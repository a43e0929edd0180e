//! A bootstrapped platform on one host, with a `flynn` command that knows it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::node::{Node, binaries, on_bare_host};

/// The domain of every test platform.
pub const DOMAIN: &str = "flynn.localhost";

pub(crate) const IMAGES: [&str; 6] =
    ["core", "component", "postgres", "gitreceive", "stack-build", "stack-run"];

/// The platform of one host.
#[derive(Debug)]
pub struct Platform {
    /// The host it runs on.
    pub node: Node,
    /// What the bootstrap printed.
    pub said: String,
    pub(crate) home: PathBuf,
}

/// Runs `test` on a platform of its own.
pub fn on_platform<F, T>(id: &str, test: F)
where
    F: FnOnce(Platform) -> T + Send,
    T: Future<Output = anyhow::Result<()>>,
{
    on_bare_host(id, async |node| test(Platform::bootstrap(node).await?).await);
}

impl Platform {
    /// From a bare host to the platform.
    pub async fn bootstrap(node: Node) -> anyhow::Result<Self> {
        for image in IMAGES {
            node.import(image).await?;
        }
        Self::bootstrap_with(node, &[]).await
    }

    /// [`bootstrap`](Self::bootstrap) with imported images and more options.
    pub(crate) async fn bootstrap_with(node: Node, options: &[&str]) -> anyhow::Result<Self> {
        let mut command = node.flynn_host(&["bootstrap", "--job-timeout", "120", "--data-dir"])?;
        command.arg(node.data_dir()).args(options).env("CLUSTER_DOMAIN", DOMAIN);
        let done = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        if !done.status.success() {
            let errors = String::from_utf8_lossy(&done.stderr);
            bail!("bootstrap failed: {said}\n{errors}\n{}", node.log());
        }
        let home = node.host.dir.join("home");
        std::fs::create_dir_all(&home)?;
        let platform = Self { node, said, home };
        platform.add_cluster()?;
        Ok(platform)
    }

    /// The printed `flynn cluster add` line, without touching git's settings.
    fn add_cluster(&self) -> anyhow::Result<()> {
        let line = self.said.lines().find(|line| line.starts_with("flynn cluster add"));
        let line = line.with_context(|| format!("no cluster add in {}", self.said))?;
        let mut words: Vec<_> = line.split(' ').skip(1).collect();
        words.insert(2, "--no-git");
        self.flynn(&words).map(drop)
    }

    /// The `flynn` command with these arguments, to be started by the caller.
    pub fn flynn_command(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.node.host.command(binaries()?.join("flynn"));
        command.args(args).env("HOME", &self.home).env("FLYNNRC", self.home.join("flynnrc"));
        Ok(command)
    }

    /// Runs `flynn`, which must succeed; gives what it printed.
    pub fn flynn(&self, args: &[&str]) -> anyhow::Result<String> {
        let done = self.flynn_command(args)?.output()?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        if !done.status.success() {
            let errors = String::from_utf8_lossy(&done.stderr);
            bail!("flynn {args:?}: {text}{errors}\n{}", self.node.log());
        }
        Ok(text)
    }

    /// An app with a release of the imported image `test-apps` that has these process types.
    pub async fn app(&self, name: &str, processes: &serde_json::Value) -> anyhow::Result<()> {
        self.flynn(&["create", "--remote", "", name])?;
        let artifact = self.node.client.images().await?.remove("test-apps").context("no image")?;
        let uri = artifact["uri"].as_str().context("an artifact has a URI")?;
        let file = self.home.join(format!("{name}.json"));
        std::fs::write(&file, serde_json::json!({ "processes": processes }).to_string())?;
        self.flynn(&["-a", name, "release", "add", "-f", &file.to_string_lossy(), uri])?;
        Ok(())
    }

    /// A page, fetched on the host; anything but a success is an error.
    pub fn fetch(&self, url: &str) -> anyhow::Result<String> {
        self.node.get(url)
    }

    /// The key of the cluster.
    pub fn key(&self) -> anyhow::Result<String> {
        let line = self.said.lines().find(|line| line.starts_with("flynn cluster add"));
        let key = line.and_then(|line| line.split(' ').next_back());
        key.map(str::to_owned).with_context(|| format!("no key in {}", self.said))
    }

    /// A home directory for commands of a person on the host.
    pub fn home(&self) -> &Path {
        &self.home
    }
}
