//! What a slug says about itself: its Procfile, its buildpack's release information, its process types
//! and their commands. No IO: the builder reads the files when it makes a slug, the runner when it starts
//! one.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod info;
mod procfile;
mod release;

pub use info::SlugInfo;
pub use procfile::{Procfile, is_process_type};
pub use release::{Release, ReleaseError};
