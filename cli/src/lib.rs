//! The commands of `flynn` and how they render what the controller says.
//!
//! [`run`] is the whole program: words, surroundings and streams in, an exit status out. One file in
//! `commands` is one command. Nothing here keeps state beside the config file, and nothing here talks
//! to anything but the controller and `git`.
#![forbid(unsafe_code)]

mod arguments;
mod attached;
mod commands;
mod connection;
mod context;
mod environment;
mod failure;
mod git;
mod program;
mod prompt;
mod rc;
mod render;
mod target;

pub use attached::signals_are_taken;
pub use context::Streams;
pub use environment::Environment;
pub use program::run;

/// What `flynn version` prints: set when the program is built for a release.
pub const VERSION: &str = match option_env!("FLYNN_VERSION") {
    Some(version) => version,
    None => "dev",
};

/// Chooses the cryptography of all TLS connections; `main` calls it first.
pub fn install_tls() {
    kit_tls::install_provider();
}
