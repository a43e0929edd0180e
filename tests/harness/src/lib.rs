//! What the scripts are too short for: sandboxes that leave nothing behind, hosts as namespaces,
//! root file systems, and the checks of the repository's own rules.
//!
//! The binary is `flynn-dev`; the cluster tests use the library. Nothing here is part of the product.

pub mod checks;
mod clock;
pub mod cluster;
pub mod command;
mod daemon;
mod faults;
pub mod guest;
pub mod hosts;
pub mod images;
pub mod sandbox;
pub mod sweep;
