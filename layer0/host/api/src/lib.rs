//! Wire types of flynn-host and its typed client.
//!
//! The types are what stands in requests, answers, event streams and attach frames (spec/host.md §3, §6,
//! §15); the daemon and every client share them. Nothing here knows how a host runs or stores anything.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod active;
mod attach;
mod attachment;
mod client;
mod config;
pub mod frame;
mod health;
mod job;
mod omit;
mod sink;
mod status;
mod timestamp;
mod volume;

pub use active::{ActiveJob, Event, EventKind, JobStatus, UnknownStatus};
pub use attach::{AttachFlags, AttachReq, Offsets, UPGRADE_PROTOCOL};
pub use attachment::{AttachError, Attachment, FrameReader, FrameWriter};
pub use client::{HostClient, JobEvents, PORT};
pub use config::{
    ContainerConfig, Device, HealthCheck, Mount, Nanoseconds, Port, Service, VolumeBinding,
};
pub use health::{HostHealth, Space};
pub use job::{
    Job, META_PREDECESSOR, META_RESTARTS, Mountspec, Profile, Resource, ResourceKind, Resources,
};
pub use sink::{Sink, SinkInfo};
pub use status::{
    Capacity, Command, DiscoverdConfig, Draining, HostPort, HostResources, HostStatus, Isolation,
    MemberChange, NetworkConfig, OverlayConfig, PullInfo, Refusal, ResourceCheck,
};
pub use timestamp::Timestamp;
pub use volume::{ProviderSpec, VolumeEvent, VolumeEventKind, VolumeInfo};
