//! `git push` for the platform (spec/pipeline.md §3, §4): smart HTTP over the git program, a pre-receive
//! hook that builds and deploys, repositories kept in the blob store.
//!
//! A push is a chain of processes: this server starts `git receive-pack`, git starts the hook, the hook
//! (this same program under another name) checks the revision out, sends it to a build job and deploys
//! the slug. Only when all of that has succeeded does git move the branch and is the repository stored.
//! So whatever is killed at whatever time, the app runs the old release or the new one, and the same push
//! can be made again.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod archive;
mod ask;
mod blobs;
mod config;
mod git;
mod hook;
mod orphans;
mod pipe;
mod places;
mod receiver;
mod repository;
mod role;
mod server;
mod session;
mod settings;
mod source;
mod ssh;
mod terminal;

pub use config::{Config, ConfigError, Limits};
pub use role::{Role, play, role};
pub use server::{StartError, start};
pub use settings::{Settings, SettingsError};
