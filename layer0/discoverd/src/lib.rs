//! Service discovery: HTTP and SSE, DNS, a durable member of a replicated log.
//!
//! Requests come in through [`http`](self) or [`dns`](self); reads are answered from the local
//! [`state`](self); writes go through the [`raft`](self) module to the log and come back to the state
//! from there. What a service, an instance or a leader is, is decided in `discoverd-registry` alone.
#![forbid(unsafe_code)]

mod config;
mod dns;
mod expiry;
mod http;
mod hub;
mod listener;
mod mending;
mod notify;
mod raft;
mod server;
mod state;
mod wire;

pub use config::{ClusterDomain, Config, DnsConfig};
pub use discoverd_registry::LeaseConfig;
pub use raft::{Dial, Direct, RaftError, RaftTiming, StoreError};
pub use server::{Backends, Deps, Disk, StartError, StoreHandle, start, start_with};
