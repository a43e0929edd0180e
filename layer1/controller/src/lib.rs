//! Apps, releases, formations and their events on PostgreSQL.
//!
//! [`start`] serves the API of spec/controller.md. All state is in the database: every request reads
//! it there, every change is one transaction that also writes the events telling of it. One file per
//! kind of object holds its handlers and its queries; `change.rs` is the transaction, `hub.rs` the
//! way from the events table to the streams. No planning of jobs happens here (scheduler), no
//! deployments step by step (worker).
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod app_deletion;
mod app_names;
mod apps;
mod artifacts;
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
mod manifest;
mod providers;
mod provisioning;
mod releases;
mod resources;
mod routes;
mod rows;
mod run;
mod scaling;
mod server;
mod volumes;

pub use config::{Config, ConfigError};
pub use server::{StartError, start};
