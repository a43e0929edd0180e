//! PostgreSQL as an appliance.
//!
//! Two servers that share an image: the *peer* ([`peer::start`]) runs one PostgreSQL server on a data
//! volume, registers it in discoverd and says how it is; the *provisioner* ([`provision::start`])
//! makes and drops databases for apps. This crate drives a cluster of one (singleton mode); it takes
//! part in no election. Source: spec/appliances.md §1, §4, §5, §9.

mod accounts;
pub mod cluster;
mod databases;
mod environment;
mod identity;
mod orphans;
pub mod peer;
pub mod provision;
mod server;
mod settings;
mod sql;
mod status;

pub use accounts::{Account, AccountError};
pub use environment::EnvironmentError;
pub use server::ServerError;
