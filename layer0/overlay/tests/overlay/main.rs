//! The overlay against a host daemon and a discoverd of cardboard: leases, races, boots without
//! quorum.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail where they stand")]

mod leases;
mod servers;
