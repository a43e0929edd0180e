//! The git program: always an argument vector, always an environment of our own making, so that neither
//! the machine's configuration nor the repository's decides what runs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;

/// Why git did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// It cannot be started.
    #[error("git cannot be started")]
    Start(#[source] std::io::Error),
    /// It said no.
    #[error("git {action} failed: {message}")]
    Failed {
        /// Its subcommand.
        action: String,
        /// The end of what it said.
        message: String,
    },
}

/// How git is run for one working copy.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    /// The working copy.
    pub(crate) directory: PathBuf,
    /// The configuration file in place of the machine's and the person's.
    pub(crate) config: PathBuf,
    /// Protocols git may use.
    pub(crate) protocols: String,
    /// The search path.
    pub(crate) path: String,
}

/// Most of git's own words that go into an error.
const MAX_MESSAGE: usize = 2000;

impl Git {
    /// A command of git in this working copy, with nothing of this process's environment.
    pub(crate) fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new("git");
        command.args(args).current_dir(&self.directory).stdin(Stdio::null()).kill_on_drop(true);
        command.env_clear();
        command.env("PATH", &self.path).env("HOME", home()).env("LC_ALL", "C.UTF-8");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", &self.config);
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", &self.protocols);
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// Runs git to its end and gives what it printed.
    pub(crate) async fn output(&self, args: &[&str]) -> Result<Vec<u8>, GitError> {
        self.finish(args, self.command(args)).await
    }

    /// [`output`](Self::output) of a command that was made with more of an environment.
    pub(crate) async fn finish(
        &self,
        args: &[&str],
        mut command: Command,
    ) -> Result<Vec<u8>, GitError> {
        succeeded(args, command.output().await.map_err(GitError::Start)?)
    }

    /// The refs and what they point to, sorted by name.
    pub(crate) async fn refs(&self) -> Result<Vec<(String, String)>, GitError> {
        let format = "--format=%(objectname) %(refname)";
        let listed = self.output(&["for-each-ref", format]).await?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let pair =
            |line: &str| line.split_once(' ').map(|(id, name)| (name.to_owned(), id.to_owned()));
        Ok(listed.lines().filter_map(pair).collect())
    }

    /// Copies refs with all they need from another working copy on this disk; what they were counts for
    /// nothing.
    pub(crate) async fn take_refs(&self, from: &Path, names: &[String]) -> Result<(), GitError> {
        let mut args: Vec<_> =
            ["fetch", "--quiet", "--no-tags", "--update-head-ok", "--force", "--"]
                .map(str::to_owned)
                .into();
        args.push(from.to_string_lossy().into_owned());
        args.extend(names.iter().map(|name| format!("+{name}:{name}")));
        let mut command = self.command(&args);
        command.env("GIT_ALLOW_PROTOCOL", "file");
        let output = command.output().await.map_err(GitError::Start)?;
        succeeded(&["fetch"], output).map(drop)
    }
}

/// How the way out of this machine is configured; git's submodules may need it.
const PASSED_ON: [&str; 12] = [
    "ALL_PROXY",
    "GIT_SSL_CAINFO",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Where ssh's files are; a job without a home has that of root.
pub(crate) fn home() -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty() && home != "/");
    PathBuf::from(home.unwrap_or_else(|| "/root".into()))
}

fn succeeded(args: &[&str], output: Output) -> Result<Vec<u8>, GitError> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let from = said.len().saturating_sub(MAX_MESSAGE);
    let from = (from..said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or(said.len());
    let action = args.first().copied().unwrap_or_default().to_owned();
    Err(GitError::Failed { action, message: said[from..].trim().to_owned() })
}
