//! Wire types of the controller and its typed client.
//!
//! The types are what stands in requests, answers and event streams (spec/controller.md §7); the
//! server and every client share them. [`JobBuilder`] turns a release into what a host is asked to
//! run, the same way for everybody who starts jobs. Nothing here knows how the controller stores
//! anything.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod app;
mod artifact;
mod client;
mod deployment;
mod event;
mod formation;
mod image;
mod job;
mod job_builder;
mod names;
mod release;
mod resource;
mod volume;
mod wire;

pub use app::{
    App, AppDeletion, AppDeletionEvent, AppGarbageCollection, AppGarbageCollectionEvent,
    AppRelease, AppUpdate, META_DEPLOY_BATCH_SIZE, META_GC_MAX_INACTIVE, META_SYSTEM_APP,
    META_SYSTEM_CRITICAL, Strategy,
};
pub use artifact::{Artifact, ArtifactType, META_BLOBSTORE, META_SYSTEM_IMAGE};
pub use client::{Client, EventStream, EventsFrom, FormationStream};
pub use deployment::{Deployment, DeploymentEvent, DeploymentStatus};
pub use event::{Event, EventFilter, EventType};
pub use formation::{
    DeprecatedScale, ExpandedFormation, Formation, MAX_PROCESS_COUNT, ProcessCounts, ProcessTags,
    ScaleRequest, ScaleState,
};
pub use image::{
    DEFAULT_ENTRYPOINT, ImageEntrypoint, ImageLayer, ImageManifest, ImagePlatform, ImageRootfs,
    LAYER_TYPE, MANIFEST_TYPE,
};
pub use job::{Job, JobState, JobUuid, NewJob, Partition, SCHEDULER_TURN, SchedulerTurn};
pub use job_builder::{
    BuildJobError, JobBuilder, META_APP, META_APP_NAME, META_FORMATION, META_PREFIX, META_RELEASE,
    META_TYPE, reserved, with_defaults,
};
pub use names::UnknownName;
pub use release::{Port, ProcessType, Release, ReleaseDeletion, ReleaseDeletionEvent, VolumeReq};
pub use resource::{Provider, Resource, ResourceReq};
pub use volume::{Volume, VolumeState, VolumeType};

pub use host_api::{
    Device, HealthCheck, Mount, Nanoseconds, Profile, Resources, Service, Timestamp,
};
pub use kit_http::ClientError;
pub use router_api::{Certificate, Route, RouteKind};
