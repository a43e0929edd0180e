//! One server, or several, in this process, asked over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dns;
mod durability;
mod expiry;
mod forming;
mod fragile;
mod golden;
mod lab;
mod linearizability;
mod members;
mod partitions;
mod rebuild;
mod support;
mod surface;
mod watch;
