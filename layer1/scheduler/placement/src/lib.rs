//! Which job goes to which host, and why.
//!
//! [`plan`] is a function: a [`Snapshot`] of hosts, jobs, formations and volumes in, a [`Plan`] of
//! starts and stops with reasons out. It does no IO, reads no clock and draws no randomness; the same
//! snapshot gives the same plan. Whoever runs the plan re-reads the world and plans again: nothing is
//! remembered here.
//!
//! What holds for every plan:
//! - planning its result yields no further step (idempotent), except the stops that wait for a
//!   replacement to run;
//! - no start exceeds what a host has left;
//! - a job stays unplaced only with a reason, and only when no host could take it;
//! - nothing is stopped for the sake of balance.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod fleet;
mod plan;
mod planner;
mod policy;
mod ranking;
mod roll;
mod single;
mod snapshot;
mod volumes;

pub use plan::{
    Held, Plan, Start, StartReason, Step, Stop, StopReason, Unplaceable, Unplaced, VolumeUse,
};
pub use planner::plan;
pub use policy::Policy;
pub use single::{Offer, choose};
pub use snapshot::{
    Formation, FormationKey, Host, HostState, Job, JobState, Process, ProcessName, Refusal,
    Reservation, Retry, Snapshot, Volume, VolumeNeed, VolumeState,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
