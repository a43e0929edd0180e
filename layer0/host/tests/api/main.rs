//! The host's API in process: the worked captures of the wire, and whole lives of jobs under a supervisor
//! made here that speaks the real protocol. Needs root for scratch disks; leaves no mount behind.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod captures;
mod fake;
mod lives;
mod members;
mod registration;
mod sinks;
