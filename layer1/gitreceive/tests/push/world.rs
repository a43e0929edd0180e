//! Servers on ports of their own, and a person with a repository.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use gitreceive::{Config, Limits, Settings};
use kit_tasks::{Running, Tasks};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::blobs::Blobs;
use crate::controller::{BUILDER, Controller, RUNNER};

pub(crate) const KEY: &str = "cluster-key";

/// Everything around one or more servers.
pub(crate) struct World {
    pub(crate) controller: Controller,
    pub(crate) blobs: Blobs,
    pub(crate) server: Running,
    pub(crate) dir: tempfile::TempDir,
    tasks: Tasks,
    variables: Vec<(String, String)>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[], |_| {}).await
    }

    pub(crate) async fn start_with(
        more: &[(&str, &str)],
        change: impl FnOnce(&mut Config),
    ) -> Self {
        kit_telemetry::start();
        let tasks = Tasks::root("test");
        let (controller, blobs) = (Controller::new(&tasks), Blobs::default());
        let controller_url = serve(&tasks, controller.router()).await;
        let blobs_url = serve(&tasks, blobs.router()).await;
        let mut variables: Vec<_> = [
            ("CONTROLLER_KEY", KEY),
            ("CONTROLLER_URL", &controller_url),
            ("BLOBSTORE_URL", &blobs_url),
            ("SLUGBUILDER_18_IMAGE_ID", BUILDER),
            ("SLUGRUNNER_18_IMAGE_ID", RUNNER),
            ("FLYNN_RELEASE_ID", "0f0e0d0c-3333-4222-8333-00000000000d"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables
            .extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let dir = tempfile::tempdir().unwrap();
        let server = start(&tasks, &dir.path().join("server"), &variables, change).await;
        Self { controller, blobs, server, dir, tasks, variables }
    }

    /// Another server of the same platform.
    pub(crate) async fn another_server(&self) -> Running {
        start(&self.tasks, &self.dir.path().join("other"), &self.variables, |_| {}).await
    }

    pub(crate) async fn stop(self) {
        self.tasks.shutdown(Duration::from_secs(30)).await;
    }

    /// A new repository with one commit.
    pub(crate) async fn repository(&self, name: &str) -> Work {
        let work = Work { dir: self.dir.path().join(name), home: self.dir.path().join("home") };
        std::fs::create_dir_all(&work.dir).unwrap();
        std::fs::create_dir_all(&work.home).unwrap();
        work.git(&["init", "--quiet", "--initial-branch=master"]).await;
        work.write("Procfile", "web: run\n");
        work.commit("one").await;
        work
    }

    pub(crate) fn url(&self) -> String {
        url(&self.server)
    }

    /// What is left of requests in the server's directory.
    pub(crate) fn working_copies(&self) -> usize {
        let entries = std::fs::read_dir(self.dir.path().join("server")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("work-")).count()
    }
}

pub(crate) fn url(server: &Running) -> String {
    format!("http://user:{KEY}@{}/demo.git", server.addr())
}

async fn serve(tasks: &Tasks, router: axum::Router) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    format!("http://{}", kit_http::serve(tasks, listener, router).unwrap().addr())
}

async fn start(
    tasks: &Tasks,
    directory: &Path,
    variables: &[(String, String)],
    change: impl FnOnce(&mut Config),
) -> Running {
    let mut config = Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        settings: Settings::from_env(variables.iter().cloned()).unwrap(),
        directory: directory.to_owned(),
        hook_program: hook_program(),
        protocols: "http:https:ssh:file".to_owned(),
        path: std::env::var("PATH").unwrap(),
        // What hangs fails its test instead of holding all up.
        limits: Limits { request: Duration::from_secs(120), ..Limits::default() },
        version: "test".to_owned(),
    };
    change(&mut config);
    gitreceive::start(config, tasks).await.unwrap()
}

/// The example `pushhook`, which cargo builds with the tests.
fn hook_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap();
    let program = built.join("examples/pushhook");
    assert!(program.exists(), "{} is missing: cargo build --examples", program.display());
    program
}

/// A person's repository.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) dir: PathBuf,
    home: PathBuf,
}

impl Work {
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        // Whoever runs the tests in the background may have Ctrl-C ignored; here it has to work.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT", "git"])
            .args(args)
            .current_dir(&self.dir)
            .env_clear()
            .kill_on_drop(true);
        command.env("PATH", std::env::var("PATH").unwrap()).env("HOME", &self.home);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "n").env(format!("GIT_{role}_EMAIL"), "e@x");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs git, which must succeed; gives what it printed.
    pub(crate) async fn git(&self, args: &[&str]) -> String {
        let done = self.command(args).output().await.unwrap();
        assert!(done.status.success(), "git {args:?}: {}", said(&done));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// Pushes; whether it was accepted, and what the person saw.
    pub(crate) async fn push(&self, url: &str, refs: &[&str]) -> (bool, String) {
        let done = self.command(&[&["push", url], refs].concat()).output().await.unwrap();
        (done.status.success(), said(&done))
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) async fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]).await;
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]).await;
        self.git(&["rev-parse", "HEAD"]).await
    }
}

/// Bytes that do not compress, always the same for a seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Both outputs of git.
pub(crate) fn said(done: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&done.stdout) + &text(&done.stderr)
}

/// What a terminal would show: git's `remote: ` is overwritten where a line says so.
pub(crate) fn shown(said: &str) -> Vec<String> {
    let line = |line: &str| match line.rsplit_once("\u{1b}[1G\u{1b}[K") {
        Some((_, rest)) => rest.trim_end_matches([' ', '\u{1b}']).to_owned(),
        None => line.to_owned(),
    };
    said.lines().map(line).map(|line| line.replace("\u{1b}[K", "").trim_end().to_owned()).collect()
}
