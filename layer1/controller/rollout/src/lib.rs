//! Deployment strategies as a function: from what runs of both releases to the next step.
//!
//! Nothing is remembered between calls. A worker that takes over a deployment reads both formations
//! and goes on; a step that was carried out twice is the same step. [`judge`] says whether a step has
//! worked, from what is seen of the jobs. Looking, acting and waiting are the worker's.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod strategy;
mod trial;

pub use strategy::{Counts, Step, Strategy, UnknownStrategy, next_step};
pub use trial::{
    JobPhase, Missing, RequestPhase, SeenJob, Sight, StepFailure, TOLERATED_ENDS, Terms, Verdict,
    judge,
};

/// Jobs per process type.
pub type ProcessCounts = std::collections::BTreeMap<String, u32>;
