//! The examples, pushed as their READMEs say. This is the test that needs the npm registry.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use cluster_tests::{DOMAIN, Platform, on_shared_platform, until};

/// A copy of an example that is a repository, with an app of the example's name.
pub(crate) struct Example {
    name: &'static str,
    dir: PathBuf,
    home: PathBuf,
}

impl Example {
    pub(crate) fn new(platform: &Platform, name: &'static str) -> anyhow::Result<Self> {
        let home = platform.home().to_owned();
        let example = Self { name, dir: home.join(name), home };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        let copied = Command::new("cp").arg("-r").arg(&source).arg(&example.dir).status()?;
        ensure!(copied.success(), "cannot copy {}", source.display());
        for arguments in [
            &["init", "-q", "-b", "main"][..],
            &["config", "user.name", "Person"],
            &["config", "user.email", "person@example.test"],
            &["add", "-A"],
            &["commit", "-q", "-m", name],
        ] {
            example.git(platform, arguments)?;
        }
        example.flynn(platform, &["create", name])?;
        Ok(example)
    }

    /// Its working copy.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its page.
    pub(crate) fn url(&self) -> String {
        format!("http://{}.{DOMAIN}/", self.name)
    }

    /// The `flynn` command in the working copy, which knows the app by its remote.
    pub(crate) fn flynn(&self, platform: &Platform, words: &[&str]) -> anyhow::Result<String> {
        let program = cluster_tests::binaries()?.join("flynn");
        self.run(platform, &program.to_string_lossy(), words)
    }

    fn run(&self, platform: &Platform, program: &str, words: &[&str]) -> anyhow::Result<String> {
        let mut command = platform.node.host.command("env");
        command.arg("-C").arg(&self.dir).arg(program).args(words).stdin(Stdio::null());
        command.env("HOME", &self.home).env("FLYNNRC", self.home.join("flynnrc"));
        // A machine's own choice would hide what `flynn cluster add` told git of the cluster.
        command.env_remove("GIT_SSL_CAINFO");
        let done = command.env("GIT_TERMINAL_PROMPT", "0").output()?;
        let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{program} {words:?}: {said}\n{}", platform.node.log());
        Ok(said.into_owned())
    }

    pub(crate) fn git(&self, platform: &Platform, words: &[&str]) -> anyhow::Result<String> {
        self.run(platform, "git", words)
    }

    pub(crate) async fn until_page(&self, platform: &Platform, text: &str) -> anyhow::Result<()> {
        let url = self.url();
        let mut last = String::new();
        let shown = until("the page of the example", async || {
            last = platform.fetch(&url).unwrap_or_else(|error| error.to_string());
            last.contains(text)
        });
        let shown = shown.await;
        shown.with_context(|| format!("{text} is not in {last}\n{}", platform.node.log()))
    }
}

/// Adds the cluster for git too.
pub(crate) fn know_cluster(platform: &Platform) -> anyhow::Result<()> {
    let line = platform.said.lines().find(|line| line.starts_with("flynn cluster add"));
    let line = line.with_context(|| format!("no cluster add in {}", platform.said))?;
    let words: Vec<_> = line.split(' ').skip(3).collect();
    platform.flynn(&[&["cluster", "add", "--force"], &words[..]].concat()).map(drop)
}

#[test]
fn the_examples_become_pages() {
    on_shared_platform(async |platform| {
        know_cluster(&platform)?;
        let example = Example::new(&platform, "hello")?;
        let said = example.git(&platform, &["push", "flynn", "main"])?;
        for text in [
            "-----> Node.js app detected",
            "Procfile declares types -> web, clock",
            "on the shared runtime node 22.",
            "=====> Application deployed",
        ] {
            ensure!(said.contains(text), "{text} is not in {said}");
        }
        example.until_page(&platform, "Hello from Flynn on port 8080").await?;
        let version = platform.flynn(&["-a", "hello", "run", "node", "--version"])?;
        ensure!(version.starts_with("v22."), "{version}");
        let quoted = ["-a", "hello", "run", "bash", "-c", "echo \"it's $HOME\""];
        ensure!(platform.flynn(&quoted)?.trim() == "it's /app");

        // The second build gets the runtime from the blob store.
        example.git(&platform, &["commit", "-q", "--allow-empty", "-m", "again"])?;
        let said = example.git(&platform, &["push", "flynn", "main"])?;
        ensure!(said.contains("is there from the build before"), "{said}");
        ensure!(said.contains("=====> Application deployed"), "{said}");

        for (name, text) in [("static", "This page is a file."), ("procfile", "Hello from Flynn")] {
            let example = Example::new(&platform, name)?;
            let said = example.git(&platform, &["push", "flynn", "main"])?;
            ensure!(said.contains("=====> Application deployed"), "{said}");
            example.until_page(&platform, text).await?;
        }
        Ok(())
    });
}
