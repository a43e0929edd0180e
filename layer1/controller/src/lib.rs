//! Apps, releases, formations and their events on PostgreSQL.
//!
//! [`start`] serves the API of spec/controller.md. All state is in the database: every request reads
//! it there, every change is one transaction that also writes the events telling of it. One file per
//! kind of object holds its handlers and its queries; `change.rs` is the transaction, `hub.rs` the
//! way from the events table to the streams, `queue.rs` the work that [`worker`], a process of its own,
//! does in the background: deployments step by step. No planning of jobs happens here (scheduler).
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod app_deletion;
mod app_names;
mod apps;
mod artifacts;
mod attached;
mod auth;
mod certificates;
mod change;
mod check;
mod config;
mod deployments;
mod events;
mod failure;
mod formation_stream;
mod formations;
mod hosts;
mod hub;
mod jobs;
mod log;
mod manifest;
mod providers;
mod provisioning;
mod queue;
mod release_deletion;
mod releases;
mod resources;
mod routes;
mod rows;
mod run;
mod scaling;
mod server;
mod turns;
mod volumes;
pub mod worker;

pub use config::{Config, ConfigError};
pub use server::{StartError, start};
