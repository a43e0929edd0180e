//! Control groups of jobs, on cgroup v1, v2 and the hybrid of both.
//!
//! A job lives at `/<prefix>/<partition>/<name>` in every mounted controller hierarchy of v1 and in
//! the v2 tree. On a hybrid machine v1 does the limits and v2 the killing. The daemon uses this too:
//! to make partitions, to read what a job uses and to sweep what a crash left. Which hierarchies
//! exist is read from mountinfo, never guessed from paths.

mod device_filter;
mod entrance;
mod files;
mod hierarchy;
mod job;
mod sweep;
mod v1;
mod v2;

pub(crate) use device_filter::rules;
pub(crate) use entrance::Entrance;
pub use hierarchy::{CgroupMode, Cgroups};
pub(crate) use job::OomWatch;
pub use job::{JobCgroup, MemoryUse};
