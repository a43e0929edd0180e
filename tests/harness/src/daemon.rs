//! The daemon of a test host: its arguments and its place.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::hosts::Host;
use crate::sandbox;

impl Host {
    /// The daemon's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What the daemon says.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    /// What the daemon is told of its cluster at every start.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("host.json")
    }

    /// A `flynn-host` command on this host, with the programs in `bin`.
    pub fn flynn_host(&self, bin: &Path, args: &[&str]) -> Command {
        let mut command = self.command(bin.join("flynn-host"));
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Tells the daemon, from its next start on, which other hosts there are.
    pub fn init(&self, bin: &Path, peers: &[Ipv4Addr]) -> anyhow::Result<()> {
        let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
        let mut command = self.flynn_host(bin, &["init", "--peer-ips", &peers.join(","), "--file"]);
        let done = command.arg(self.config_path()).output()?;
        anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// The daemon: `how` is `daemon`, or `watch` for one that is started again when it dies.
    pub fn daemon(&self, bin: &Path, how: &str) -> anyhow::Result<Command> {
        let prefix = std::env::var(sandbox::PREFIX_ENV).context("not in a sandbox")?;
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.flynn_host(bin, &[how]);
        if how == "watch" {
            command.arg("--");
        }
        command
            .args(["--id", &self.id, "--external-ip", &self.ip.to_string()])
            .args(["--cgroup-prefix", &format!("{prefix}-{}", self.id)])
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--flynn-init")
            .arg(bin.join("flynn-init"))
            .env("FLYNN_HOST_CONFIG", self.config_path())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }
}
