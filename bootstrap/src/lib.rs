//! From nothing to a running platform, as steps: what is done in which order, and the engine that
//! does it once, however often it is interrupted.
//!
//! It needs no controller and no scheduler; those are among the things it starts. Secrets it makes
//! are on disk before anybody uses them, and never in its output.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod actions;
mod cluster;
mod engine;
mod options;
mod output;
mod platform;
mod record;
mod steps;
mod values;

pub use actions::ActionError;
pub use cluster::{Host, HostsMissing};
pub use engine::{BootstrapError, Outcome, run, run_steps};
pub use options::{Options, OptionsError};
pub use output::{Sink, StepEvent, StepState};
pub use record::RecordError;
pub use steps::{
    Action, AppSpec, CertificateSpec, Count, Encoding, ProcessSpec, RandomSpec, ResourceSpec,
    RouteSpec, Step, WaitSpec, WaitTarget, all as all_steps,
};
pub use values::{Value, ValueError};
