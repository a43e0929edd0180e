//! Detached mounts of host trees, id-mapped into the job's range (userns.md §1 B).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{SetupError, Step};
use crate::sys;

/// The job's ids as the kernel knows them: its user namespace, or none.
#[derive(Clone, Copy)]
pub(crate) struct IdMap<'a> {
    namespace: Option<BorrowedFd<'a>>,
    base: u32,
}

impl<'a> IdMap<'a> {
    /// Ids of the job are ids of the host.
    pub(crate) const HOST: Self = Self { namespace: None, base: 0 };

    /// Ids of the job start at `base` of the host, as `namespace` says.
    pub(crate) fn new(namespace: BorrowedFd<'a>, base: u32) -> Self {
        Self { namespace: Some(namespace), base }
    }

    /// Host id of the job's id `id`.
    pub(crate) fn host_id(self, id: u32) -> u32 {
        self.base.saturating_add(id)
    }

    /// Whether there is a user namespace at all.
    pub(crate) fn is_mapped(self) -> bool {
        self.namespace.is_some()
    }
}

/// A detached copy of the tree at `path` with `attributes`, ids mapped. It must be attached or
/// used while the descriptor is open.
pub(crate) fn mapped_tree(
    path: &Path,
    ids: IdMap<'_>,
    attributes: u64,
    recursive: bool,
) -> Result<OwnedFd, SetupError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, path, flags).step_with(|| format!("opening {}", path.display()))?;
    if attributes != 0 || ids.is_mapped() {
        sys::set_mount_attributes(tree.as_fd(), attributes, ids.namespace, recursive)
            .step_with(|| format!("mapping the ids of {}", path.display()))?;
    }
    Ok(tree)
}
