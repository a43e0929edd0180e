//! The overlay against a host daemon and a discoverd of cardboard: leases, races, boots without quorum;
//! and against the real kernel, in network namespaces of the test's own (which needs root): tunnels,
//! routes.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail where they stand")]

mod leases;
mod servers;
mod tunnels;
mod world;
