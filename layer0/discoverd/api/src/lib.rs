//! Wire types of discoverd and its typed client.
//!
//! The types are what stands in requests, answers, event streams and the notification a host gets; the
//! server and every client share them. Nothing here knows how discoverd stores or replicates.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod client;
mod event;
mod heartbeat;
mod instance;
mod leaders;
mod lenient;
mod membership;
mod resolver;
mod servers;
mod service;
mod watch;

pub use client::{Client, DiscoverdError};
pub use event::{Event, EventKind};
pub use heartbeat::Heartbeat;
pub use instance::{Instance, InstanceError, InstanceId, instance_id};
pub use leaders::Leaders;
pub use membership::{
    DeploymentState, DiscoverdConfig, LastIndex, RaftLeader, RaftMember, Rebuild, ServiceDeployment,
};
pub use resolver::DiscoverdResolver;
pub use servers::Servers;
pub use service::{
    JsonText, LeaderChange, LeaderType, ServiceConfig, ServiceMeta, ServiceName, ServiceNameError,
};
pub use watch::Watch;
