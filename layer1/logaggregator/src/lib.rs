//! Collects the log lines of all hosts and answers who asks for them: syslog in over TCP, the newest
//! lines of each app in memory, HTTP out. It stores nothing on disk: hosts have the files, and another
//! aggregator's snapshot fills a new one.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod answer;
mod buffer;
mod config;
mod filter;
mod http;
mod intake;
mod line;
mod membership;
mod server;
mod snapshot;
mod store;

pub use config::{Config, ConfigError, DEFAULT_SERVICE, Registration};
pub use server::{StartError, start};
