//! A host with a running daemon, for tests that look at the real thing.

mod jobs;
mod node;

pub use jobs::{Output, Run};
pub use node::{Node, PATIENCE, binaries, on_bare_host, on_host, until};
