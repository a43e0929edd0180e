//! Seeded simulation: one thread, one agenda of events, a network, disks and clocks that fail. The
//! pure crates run in it as they are; what stands between them here is a model.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod agenda;
mod clock;
mod disk;
mod fault;
pub mod fleet;
mod network;
pub mod overlay;
mod random;
pub mod registry;
mod seeds;
mod stage;
mod trace;

pub use agenda::Agenda;
pub use clock::NodeClock;
pub use disk::Disk;
pub use fault::{Fault, draw_fault};
pub use network::Network;
pub use random::Random;
pub use seeds::explore;
pub use stage::{Model, Stage, Storm};
pub use trace::Trace;
