//! Structured logs of every binary: one line an event on standard error, fields as `key=value`.
//!
//! The level comes from `FLYNN_LOG` (as in `FLYNN_LOG=info,host=debug`), `info` when it is unset.
//! Secrets are never fields.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

use tracing_subscriber::EnvFilter;

/// Starts logging for this process. A second call changes nothing, so that tests may call it freely.
pub fn start() {
    let filter = EnvFilter::try_from_env("FLYNN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(true)
        .finish();
    // The only failure is that a subscriber is installed already.
    drop(tracing::subscriber::set_global_default(subscriber));
}
