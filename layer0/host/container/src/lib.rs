//! Launcher and supervisor of one job: namespaces, cgroups, seccomp, overlay, pty.
//!
//! The daemon calls [`launch`] and from then on speaks [`protocol`] over the job's socket. All of
//! this crate is single-threaded and blocking or poll-driven; it knows no tokio and no TLS.
#![warn(missing_docs)]

mod cgroup;
pub mod client;
mod container;
mod error;
mod init;
mod launch;
mod pin;
mod probe;
pub mod protocol;
mod services;
mod spool;
mod supervise;
mod sys;

pub use cgroup::{CgroupMode, Cgroups, JobCgroup, MemoryUse};
pub use init::{INIT, run_init};
pub use launch::{SUPERVISE, launch};
pub use pin::{PinnedNamespace, enter_pinned_mount_namespace, remove_pinned_mount_namespace};
pub use probe::{Probe, UsernsSupport, probe};
pub use spool::{Found, Spool};
pub use supervise::run_supervisor;
