//! Launcher and supervisor of one job: namespaces, cgroups, seccomp, overlay, pty.
//!
//! The daemon calls [`launch`] and from then on speaks [`protocol`] over the job's socket. All of
//! this crate is single-threaded and blocking or poll-driven; it knows no tokio and no TLS.
#![warn(missing_docs)]

pub mod client;
mod launch;
pub mod protocol;

pub use launch::launch;
