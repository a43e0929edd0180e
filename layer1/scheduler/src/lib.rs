//! Keeps what runs equal to what is wanted.
//!
//! [`start`] runs one scheduler. All schedulers of a cluster are registered as the service
//! `controller-scheduler`; its leader acts, the others wait. The leader goes round and round: read
//! formations, jobs and volumes from the controller and jobs from every host, let `placement` plan,
//! carry the plan out. Events only make the next round come sooner.
//!
//! *Invariant:* a job is recorded in the controller, with its id and host, before its host hears of it.
//! A scheduler that dies at any moment leaves a record which the next one finds and finishes under the
//! same id, so that no death makes an extra job. A recorded job and one that was told to stop keep their
//! place until their host, unless it is lost, says that they ended.
//!
//! *Invariant:* of two schedulers that both believe they lead, one acts. Each begins a turn at the controller
//! before it reads, and the controller refuses what is recorded in an earlier turn; so a leader that was
//! paused in the middle of its plan and wakes can start and stop nothing by it.
#![forbid(unsafe_code)]

mod cluster;
mod known;
mod live;
mod memory;
mod records;
mod round;
mod routers;
mod server;
#[cfg(test)]
mod simulation;
mod view;
mod waiting;

pub use server::{Config, StartError, start};
