//! `git push` on a real platform: through the router, with the certificate and the key that
//! `flynn cluster add` told git of.

mod cuts;

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use cluster_tests::{DOMAIN, Platform, on_shared_platform, until};

/// A person with a repository on the host.
struct Person {
    dir: PathBuf,
    home: PathBuf,
}

impl Person {
    /// Tells flynn and git of the cluster, and makes an app with a remote.
    fn new(platform: &Platform, app: &str) -> anyhow::Result<Self> {
        let line = platform.said.lines().find(|line| line.starts_with("flynn cluster add"));
        let line = line.with_context(|| format!("no cluster add in {}", platform.said))?;
        let words: Vec<_> = line.split(' ').skip(3).collect();
        platform.flynn(&[&["cluster", "add", "--force"], &words[..]].concat())?;
        let home = platform.home().to_owned();
        let person = Self { dir: home.join("work"), home };
        std::fs::create_dir_all(&person.dir)?;
        person.git(platform, &["init", "--quiet", "--initial-branch=master"])?;
        person.git(platform, &["config", "user.name", "Person"])?;
        person.git(platform, &["config", "user.email", "person@example.test"])?;
        person.flynn(platform, &["create", app])?;
        Ok(person)
    }

    fn command(&self, platform: &Platform, program: &str, args: &[&str]) -> std::process::Command {
        let mut command = platform.node.host.command("env");
        command.arg("-C").arg(&self.dir).arg(program).args(args).env("HOME", &self.home);
        command.env("FLYNNRC", self.home.join("flynnrc")).env("GIT_TERMINAL_PROMPT", "0");
        command.stdin(Stdio::null());
        command
    }

    fn flynn(&self, platform: &Platform, args: &[&str]) -> anyhow::Result<String> {
        let program = cluster_tests::binaries()?.join("flynn");
        let done = self.command(platform, &program.to_string_lossy(), args).output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn git(&self, platform: &Platform, args: &[&str]) -> anyhow::Result<String> {
        let done = self.command(platform, "git", args).output()?;
        let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        if !done.status.success() {
            bail!("git {args:?}: {said}");
        }
        Ok(said.into_owned())
    }

    /// A commit whose page says `text`.
    fn commit(&self, platform: &Platform, text: &str) -> anyhow::Result<()> {
        std::fs::write(self.dir.join("index.html"), format!("<p>{text}</p>\n"))?;
        self.git(platform, &["add", "--all"])?;
        self.git(platform, &["commit", "--quiet", "-m", text]).map(drop)
    }

    /// Pushes until it works: whatever was killed takes a moment to come back.
    async fn push_again(&self, platform: &Platform) -> anyhow::Result<String> {
        let mut last = Err(anyhow::anyhow!("not tried"));
        let pushed = until("a push works", async || {
            last = self.git(platform, &["push", "flynn", "master"]);
            last.is_ok()
        });
        let pushed = pushed.await;
        pushed.with_context(|| format!("{last:?}\n{}", platform.node.log()))?;
        last
    }
}

async fn until_page(platform: &Platform, url: &str, text: &str) -> anyhow::Result<()> {
    let mut last = String::new();
    let shown = until("the page shows what was pushed", async || {
        last = platform.fetch(url).unwrap_or_else(|error| error.to_string());
        last.contains(text)
    });
    let shown = shown.await;
    shown.with_context(|| format!("{text} is not in {last}\n{}", platform.node.log()))
}

#[test]
fn a_push_becomes_a_page_and_the_next_one_replaces_it() {
    on_shared_platform(async |platform| {
        let person = Person::new(&platform, "pushed")?;
        let remotes = person.git(&platform, &["remote", "-v"])?;
        ensure!(remotes.contains(&format!("https://git.{DOMAIN}/pushed.git (push)")), "{remotes}");
        person.commit(&platform, "first")?;
        let said = person.git(&platform, &["push", "flynn", "master"]);
        let said = said.with_context(|| platform.node.log())?;
        for text in [
            "-----> Building pushed...",
            "-----> Static site app detected",
            "-----> Creating release...",
            "=====> Scaling initial release to web=1",
            "=====> Initial web job started",
            "=====> Application deployed",
            "* [new branch]      master -> master",
        ] {
            ensure!(said.contains(text), "{text} is not in {said}");
        }
        let page = format!("http://pushed.{DOMAIN}/");
        until_page(&platform, &page, "first").await?;

        person.commit(&platform, "second")?;
        let said = person.git(&platform, &["push", "flynn", "master"]);
        let said = said.with_context(|| platform.node.log())?;
        ensure!(said.contains("=====> Application deployed"), "{said}");
        until_page(&platform, &page, "second").await?;

        let refused = person.git(&platform, &["push", "flynn", "master:other"]);
        let refused = format!("{:?}", refused.err().context("another branch was deployed")?);
        ensure!(refused.contains("must include a change to the master branch"), "{refused}");
        std::fs::remove_dir_all(person.dir.join(".git/refs/remotes")).ok();
        let url = format!("https://git.{DOMAIN}/pushed.git");
        let stranger = ["-c", "credential.helper=", "ls-remote", &url];
        ensure!(person.git(&platform, &stranger).is_err(), "no key was needed");
        Ok(())
    });
}
