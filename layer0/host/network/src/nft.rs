//! Runs the `nft` program: rule text on its standard input, nothing but constants in its arguments.
//!
//! One may be started before there are rules: it waits for them, which saves a job the time of a
//! program's start. It ends when its standard input does, so none outlives its daemon.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

/// nft answers in milliseconds; this only keeps a stuck one from holding the daemon for ever.
const TIME_OUT: Duration = Duration::from_secs(20);

/// Why rules were not loaded. nft loads all of a text or nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program is missing or cannot be run.
    #[error("cannot run {program}: is the package nftables installed?")]
    Run {
        /// What was to be run.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It refused the rules.
    #[error("nft refused the rules: {message}")]
    Refused {
        /// What it printed.
        message: String,
    },
    /// It did not come back.
    #[error("nft did not answer within {} s", TIME_OUT.as_secs())]
    TimedOut,
}

/// The program, and one of it that waits for rules.
#[derive(Debug)]
pub(crate) struct Nft {
    program: PathBuf,
    waiting: Mutex<Option<Child>>,
}

impl Nft {
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program, waiting: Mutex::new(None) }
    }

    /// Loads `rules` in one transaction.
    pub(crate) async fn load(&self, rules: &str) -> Result<(), NftError> {
        let mut waiting = self.waiting.lock().await.take();
        let child = match waiting.take_if(is_alive) {
            Some(child) => child,
            None => self.spawn()?,
        };
        let output = tokio::time::timeout(TIME_OUT, feed(child, rules)).await;
        let output = output.map_err(|_| NftError::TimedOut)?.map_err(|e| self.not_run(e))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let message = text.lines().take(4).collect::<Vec<_>>().join(" | ");
        Err(NftError::Refused { message })
    }

    /// Starts the program for the next rules, if none waits.
    pub(crate) async fn make_ready(&self) -> Result<(), NftError> {
        let mut waiting = self.waiting.lock().await;
        if !waiting.as_mut().is_some_and(is_alive) {
            *waiting = Some(self.spawn()?);
        }
        Ok(())
    }

    fn spawn(&self) -> Result<Child, NftError> {
        Command::new(&self.program)
            .args(["-f", "-"])
            .env_clear()
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| self.not_run(source))
    }

    fn not_run(&self, source: std::io::Error) -> NftError {
        NftError::Run { program: self.program.display().to_string(), source }
    }
}

fn is_alive(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(None))
}

async fn feed(mut child: Child, rules: &str) -> std::io::Result<Output> {
    if let Some(mut pipe) = child.stdin.take() {
        // An nft that ends early says why on its standard error.
        let _ = pipe.write_all(rules.as_bytes()).await;
    }
    child.wait_with_output().await
}
