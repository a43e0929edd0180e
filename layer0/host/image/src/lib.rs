//! Layer store of one host: import, fetch, verify, mount, collect. It knows nothing of jobs; stacking
//! layers into a root file system is the supervisor's.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod collect;
mod fetch;
mod image;
pub mod import;
mod layer;
mod loop_mount;
mod mounts;
mod store;
mod unpack;

pub use collect::{Kept, Watermark, choose};
pub use fetch::{FetchError, Fetcher};
pub use image::{Entrypoint, Image, ImageError, Images};
pub use import::ImportError;
pub use layer::{Layer, LayerError, LayerKey};
pub use loop_mount::{FileSystem, mount_file};
pub use mounts::{LayerMounts, MountError, Mounted};
pub use store::{Form, LayerStore, StoreError};
