//! Deployment strategies as a function: from what runs of both releases to the next step.
//!
//! Nothing is remembered between calls. A worker that takes over a deployment reads both formations
//! and goes on; a step that was carried out twice is the same step. Source: spec/controller.md §12.
//! What a step means for jobs, and waiting for it, is the worker's.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod attempt;
mod strategy;

pub use attempt::{Attempt, JobFailure, TOLERATED_DOWNS};
pub use strategy::{Counts, Step, Strategy, UnknownStrategy, next_step, rollback_step};

/// Jobs per process type.
pub type ProcessCounts = std::collections::BTreeMap<String, u32>;
