//! The host's network on a real kernel: every test lives in network and mount namespaces of its own
//! and needs root; nothing touches the namespaces the test was started in.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail where they stand")]

mod across;
mod fastpath;
mod life_cycle;
mod reachability;
mod sources;
mod world;
