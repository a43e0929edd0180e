//! A host with a running daemon, for tests that look at the real thing.

mod cluster;
mod counts;
mod jobs;
mod load;
mod node;
mod platform;
pub mod several;
mod shared;

pub use cluster::{Cluster, on_cluster};
pub use counts::Counts;
pub use jobs::{Output, Run};
pub use load::{Counted, Load};
pub use node::{Node, PATIENCE, binaries, on_bare_host, on_host, on_small_host, until};
pub use platform::{DOMAIN, Platform, on_platform};
pub use shared::on_shared_platform;
