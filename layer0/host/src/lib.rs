//! The host daemon: jobs, images, volumes and logs of one host over HTTP. It decides nothing about the
//! cluster; it keeps what it was given running and says what became of it.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
mod daemon;
mod gates;
mod host;
mod http;
mod logs;
mod members;
mod names;
mod nets;
mod probe;
mod publish;
mod ranges;
mod registration;
mod registry;
mod runner;
mod scratch;
mod settings;
mod sinks;
mod store;
mod supervisor;
mod volumes;

pub use config::{Config, DEFAULT_PARTITIONS, PartitionsError, parse_partitions, parse_tags};
pub use daemon::{Daemon, Deps, StartError, open_network, start};
pub use nets::Nets;
pub use probe::probe;
pub use store::StoreError;
pub use supervisor::{ExecLauncher, Launcher};
