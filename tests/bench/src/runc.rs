//! The peer of a launch: `runc run` of a bundle made of one program.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

/// A bundle that runs one program of the tests.
#[derive(Debug)]
pub(crate) struct Bundle {
    dir: tempfile::TempDir,
}

impl Bundle {
    /// A bundle whose process is `/bin/<program> args…`, with runc's own defaults otherwise.
    pub(crate) fn new(program: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("flynn-t-bundle-").tempdir()?;
        let root = dir.path().join("rootfs");
        for folder in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::copy(program, root.join("bin/program"))
            .with_context(|| program.display().to_string())?;
        let made = Command::new("runc").args(["spec", "--bundle"]).arg(dir.path()).output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let file = dir.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
        let words: Vec<_> = ["/bin/program"].iter().chain(args).collect();
        config["process"]["args"] = serde_json::json!(words);
        config["process"]["terminal"] = serde_json::json!(false);
        config["linux"]["cgroupsPath"] = serde_json::json!(format!("/{}/job", group()));
        fs::write(&file, config.to_string())?;
        Ok(Self { dir })
    }

    /// Runs it once; gives what it printed.
    pub(crate) fn run(&self, name: &str) -> anyhow::Result<String> {
        let state = self.dir.path().join("state");
        let mut command = Command::new("runc");
        command.arg("--root").arg(state).args(["run", "--bundle"]).arg(self.dir.path()).arg(name);
        let done = command.output().context("runc")?;
        ensure!(done.status.success(), "runc: {}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

/// The group above that of the container, in every tree.
fn group() -> String {
    format!("flynn-t-runc-{}", std::process::id())
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // runc removes the group of a container, not the one above it.
        for tree in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            drop(fs::remove_dir(tree.path().join(group())));
        }
    }
}
