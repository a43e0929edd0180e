//! Runs the `nft` program: rule text on its standard input, nothing but constants in its arguments.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

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

/// Loads `rules` in one transaction.
pub(crate) async fn load(program: &Path, rules: &str) -> Result<(), NftError> {
    let run = |source| NftError::Run { program: program.display().to_string(), source };
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .env_clear()
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(run)?;
    let mut stdin = child.stdin.take();
    let feed = async {
        if let Some(pipe) = stdin.as_mut() {
            // An nft that ends early says why on its standard error.
            let _ = pipe.write_all(rules.as_bytes()).await;
        }
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(TIME_OUT, feed).await.map_err(|_| NftError::TimedOut)?;
    let output = output.map_err(run)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let message = text.lines().take(4).collect::<Vec<_>>().join(" | ");
    Err(NftError::Refused { message })
}
