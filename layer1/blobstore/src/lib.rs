//! Files by name for the platform: slugs, layers, build caches (spec/platform.md §3).
//!
//! Every change writes a new file under an id of its own and then swaps the name to it in one
//! transaction. So nothing is visible before all of it is stored, readers finish what they began, and
//! a crash leaves at most contents without a name, which [`sweep`] removes.
#![forbid(unsafe_code)]

mod access;
mod catalogue;
mod contents;
mod environment;
mod name;
mod ranges;
mod read;
mod server;
mod sweep;
mod write;

pub use contents::Backend;
pub use environment::EnvironmentError;
pub use server::{Config, start};
