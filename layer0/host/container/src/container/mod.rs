//! Building a container from outside: user namespace, id-mapped layers, overlay, `/dev`, binds.
//! Everything here runs as real root in the supervisor's private mount namespace, before the job's
//! first process is let go.

mod bind;
mod devices;
mod idmap;
mod overlay;
mod rootfs;
mod userns;

pub(crate) use bind::{bind_mount, config_mount};
pub(crate) use devices::{STANDARD_DEVICES, populate_dev};
pub(crate) use idmap::{IdMap, mapped_tree};
pub(crate) use overlay::{Overlay, mount_overlay};
pub(crate) use rootfs::InRoot;
pub(crate) use userns::{id_map_namespace, write_maps};
