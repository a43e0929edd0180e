//! Turns the source of an app into a slug: source tar in, buildpack run, layers and an artifact out. It
//! runs once, inside a build job; it decides nothing about releases.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod archive;
mod build;
mod buildpack;
mod cache;
mod config;
mod error;
mod fetch;
mod image;
mod layout;
mod memory;
mod output;
mod pack;
mod process;
mod runtime;
mod select;
mod slugignore;
mod store;
mod surroundings;

pub use build::build;
pub use config::{Config, ConfigError, Places, User};
pub use error::BuildError;
pub use output::Output;
