//! One server, or three, in this process on ports of the system's choice, asked over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod dns;
mod durability;
mod expiry;
mod golden;
mod support;
mod surface;
mod watch;
