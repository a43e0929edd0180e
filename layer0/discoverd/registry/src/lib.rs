//! [`Registry`] is the replicated part, [`Leases`] the part only the leader runs, [`Leased`] both in step.
//!
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod command;
mod lease;
mod leased;
mod names;
mod registry;
mod service;
mod snapshot;

pub use command::{Answer, Command, Event, Lapsed, Refusal};
pub use lease::{LeaseConfig, LeaseEffect, LeaseEvent, LeaseView, Leases, TimeoutReason};
pub use leased::{Leased, Look};
pub use names::{Id, LogIndex, Name};
pub use registry::Registry;
pub use service::{Election, Instance, Meta, Registration};
pub use snapshot::{InstanceImage, ServiceImage, Snapshot};
