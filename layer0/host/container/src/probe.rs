//! What this machine's kernel and file systems can do for jobs, found by trying it once on the
//! directories that will be used (userns.md §9), never by comparing version numbers.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsconfig_create, fsconfig_set_string, fsopen};
use serde::{Deserialize, Serialize};

use crate::cgroup::{CgroupMode, Cgroups};
use crate::container::{IdMap, Overlay, id_map_namespace, mapped_tree, mount_overlay};
use crate::protocol::{Lowers, UserNamespace};

/// A range that is used for nothing but trying.
const TRIAL: UserNamespace = UserNamespace { base: 1_000_000, size: 65_536 };

/// How far jobs can have a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsernsSupport {
    /// Mounted layers can be id-mapped.
    Full,
    /// Only layers unpacked into directories can.
    DirsOnly,
    /// Not at all.
    Off,
}

/// The findings, to be published in the host's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// User namespaces over id-mapped layers.
    pub userns: UsernsSupport,
    /// Why not `Full`.
    pub reason: Option<String>,
    /// The fastest way to give layers to an overlay that works here.
    pub lowers: Lowers,
    /// Whether erofs mounts a file without a loop device.
    pub erofs_file: bool,
    /// Which cgroup trees there are; `None` when none is mounted.
    pub cgroups: Option<CgroupMode>,
    /// What of memory, cpu and pids cannot be limited; empty where jobs are safe from each other.
    pub missing_limits: Vec<String>,
}

/// Tries everything. `layer_dir` is a mounted layer when there is one (or the layer store),
/// `volume_dir` the folder of volumes, `scratch_dir` an existing directory on the file system of
/// scratch space; nothing stays in it.
pub fn probe(layer_dir: &Path, volume_dir: &Path, scratch_dir: &Path) -> Probe {
    let (userns, lowers, reason) = user_namespaces(layer_dir, volume_dir, scratch_dir);
    let trees = Cgroups::detect().ok();
    let missing = trees.as_ref().map(Cgroups::missing_limits).unwrap_or_default();
    Probe {
        userns,
        reason,
        lowers,
        erofs_file: erofs_takes_files(scratch_dir),
        cgroups: trees.map(|trees| trees.mode()),
        missing_limits: missing.into_iter().map(str::to_owned).collect(),
    }
}

fn user_namespaces(
    layer_dir: &Path,
    volume_dir: &Path,
    scratch_dir: &Path,
) -> (UsernsSupport, Lowers, Option<String>) {
    let namespace = match id_map_namespace(TRIAL) {
        Ok(namespace) => namespace,
        Err(error) => {
            return off(scratch_dir, format!("no user namespaces: {error}"));
        }
    };
    let ids = Some(namespace.as_fd());
    let of_layers = maps(layer_dir, &namespace);
    let others = maps(volume_dir, &namespace).and_then(|()| maps(scratch_dir, &namespace));
    match (of_layers, others) {
        (_, Err(reason)) => off(scratch_dir, reason),
        (Err(reason), Ok(())) => {
            overlays(UsernsSupport::DirsOnly, scratch_dir, scratch_dir, ids, Some(reason))
        }
        (Ok(()), Ok(())) => overlays(UsernsSupport::Full, layer_dir, scratch_dir, ids, None),
    }
}

/// `support`, unless no overlay can be made on mapped layers.
fn overlays(
    support: UsernsSupport,
    layer: &Path,
    scratch_dir: &Path,
    ids: Option<BorrowedFd<'_>>,
    reason: Option<String>,
) -> (UsernsSupport, Lowers, Option<String>) {
    if let Some(works) = lowers(layer, scratch_dir, ids) {
        return (support, works, reason);
    }
    let reason = "overlayfs does not take id-mapped layers".to_owned();
    off(scratch_dir, reason)
}

fn off(scratch_dir: &Path, reason: String) -> (UsernsSupport, Lowers, Option<String>) {
    let lowers = lowers(scratch_dir, scratch_dir, None).unwrap_or_default();
    (UsernsSupport::Off, lowers, Some(reason))
}

fn maps(dir: &Path, namespace: &OwnedFd) -> Result<(), String> {
    let ids = IdMap::new(namespace.as_fd(), TRIAL.base);
    mapped_tree(dir, ids, 0, false).map(drop).map_err(|error| error.report())
}

/// The first way that works.
fn lowers(layer: &Path, scratch_dir: &Path, ids: Option<BorrowedFd<'_>>) -> Option<Lowers> {
    let ids = ids.map_or(IdMap::HOST, |namespace| IdMap::new(namespace, TRIAL.base));
    let works = |way: &Lowers| try_overlay(layer, scratch_dir, *way, ids);
    [Lowers::Descriptors, Lowers::Paths, Lowers::Classic].into_iter().find(works)
}

fn try_overlay(layer: &Path, scratch_dir: &Path, lowers: Lowers, ids: IdMap<'_>) -> bool {
    let scratch = scratch_dir.join(format!(".probe-{}", std::process::id()));
    let lower = scratch.join("layer");
    // The scratch space itself cannot be below an overlay whose upper directory is in it.
    let layer = if layer == scratch_dir { lower.as_path() } else { layer };
    let tried = fs::create_dir_all(&lower).is_ok_and(|()| {
        let overlay = Overlay { layers: &[layer.to_owned()], scratch: &scratch, lowers, ids };
        mount_overlay(&overlay).is_ok_and(|root| {
            // A wrong owner would make it read-only without an error.
            let writable = fs::write(root.join("probe"), "").is_ok();
            rustix::mount::unmount(root, rustix::mount::UnmountFlags::DETACH).is_ok() && writable
        })
    });
    let _ = fs::remove_dir_all(&scratch);
    tried
}

/// A file that is no erofs image is refused as such by who takes files, and as a file by who needs
/// a block device.
fn erofs_takes_files(scratch_dir: &Path) -> bool {
    let path = scratch_dir.join(format!(".probe-erofs-{}", std::process::id()));
    let made = File::create(&path).and_then(|file| file.set_len(8192));
    let refused = made.ok().and_then(|()| {
        let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
        fsconfig_set_string(context.as_fd(), "source", path.as_path()).ok()?;
        fsconfig_create(context.as_fd()).err()
    });
    let _ = rustix::fs::unlinkat(CWD, &path, rustix::fs::AtFlags::empty());
    refused == Some(Errno::INVAL)
}
