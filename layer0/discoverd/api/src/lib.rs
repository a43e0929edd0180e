//! Wire types of discoverd and its typed client.
//!
//! The types are what stands in requests, answers, event streams and the notification a host gets; the
//! server and every client share them. Nothing here knows how discoverd stores or replicates.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod event;
mod instance;
mod lenient;
mod membership;
mod service;

pub use event::{Event, EventKind};
pub use instance::{Instance, InstanceError, InstanceId, instance_id};
pub use membership::{DeploymentState, DiscoverdConfig, LastIndex, RaftLeader, ServiceDeployment};
pub use service::{
    JsonText, LeaderChange, LeaderType, ServiceConfig, ServiceMeta, ServiceName, ServiceNameError,
};
