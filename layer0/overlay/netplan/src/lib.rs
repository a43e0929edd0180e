//! Subnet leases and the routes that follow from them, pure: which subnet a host takes, and what its
//! kernel must know of the others. Nothing here talks to discoverd or to the kernel.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod acquisition;
mod block;
mod config;
mod lease;
mod wanted;

pub use acquisition::{Acquisition, OutOfSubnets, Proposal, Retry};
pub use block::{Block, BlockError};
pub use config::{Config, ConfigError, ConfigInput};
pub use lease::{
    Backend, BackendError, BackendKind, Lease, Leases, Mac, MacError, RENEW_EVERY, SILENCE,
};
pub use wanted::{Forwarding, Neighbour, Route, Wanted, WantedChange, device_address};
