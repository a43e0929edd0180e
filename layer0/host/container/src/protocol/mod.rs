//! What the daemon and a job's supervisor say to each other.
//!
//! - [`JobSpec`]: everything the supervisor needs, handed over once on fd 3.
//! - [`State`], [`StateReport`], [`ExitRecord`]: what became of the job.
//! - [`Request`], [`Notice`], [`ClientFrame`], [`SupervisorFrame`]: messages on `<job_dir>/sock`.
//! - [`Decoder`] and the `encode` methods: pure framing, usable from blocking code and from tokio.
//!
//! It is private to one release of Flynn; what outlives an upgrade is handled by `serde` defaults.

mod frame;
mod message;
mod spec;
mod state;

pub use frame::{DecodeError, Decoder, FromFrame, MAX_DATA, MAX_FRAME};
pub use message::{
    ClientFrame, HttpsCheck, Notice, OUTPUT_END, Order, Request, Stream, SupervisorFrame,
};
pub use spec::{
    BindMount, CgroupSpec, CheckKind, ConfigMount, CpuQuota, DEFAULT_SPOOL_BYTES, Device,
    DeviceKind, HealthCheck, JobSpec, Lowers, NetworkSpec, Rlimits, ServiceSpec, UserNamespace,
};
pub use state::{ExitRecord, ServiceReport, State, StateReport, StreamReport};

/// Name of the supervisor's socket inside the job's directory.
pub const SOCKET_NAME: &str = "sock";
/// Name of the durable record of the job's end inside the job's directory.
pub const EXIT_FILE_NAME: &str = "exit.json";
/// Name of the folder of spooled output inside the job's directory.
pub const SPOOL_NAME: &str = "spool";
