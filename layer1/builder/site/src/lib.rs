//! Serves the files of a static site over HTTP, as the slug of our static buildpack runs it. Not a web
//! server for everything: no ranges, no compression, no TLS, which is the router's.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod media;
mod server;
mod settings;

pub use server::{StartError, start};
pub use settings::{Settings, SettingsError};
