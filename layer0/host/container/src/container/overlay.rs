//! The job's root: its layers, id-mapped and shared, under a private writable directory
//! (userns.md §1 C and D1).

use std::ffi::CString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_fd, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
    unmount,
};

use super::idmap::{IdMap, mapped_tree};
use crate::error::{SetupError, Step};
use crate::protocol::Lowers;
use crate::sys::{ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY};

const LAYER_ATTRIBUTES: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV;
/// mount(2) takes one page of options.
const CLASSIC_OPTIONS_MAX: usize = 4095;

/// What to put together.
pub(crate) struct Overlay<'a> {
    /// Bottom first.
    pub(crate) layers: &'a [PathBuf],
    /// Gets `upper`, `work`, `root` and, while mounting, `lower`.
    pub(crate) scratch: &'a Path,
    pub(crate) lowers: Lowers,
    pub(crate) ids: IdMap<'a>,
}

/// Mounts the overlay and gives the path of its root.
pub(crate) fn mount_overlay(overlay: &Overlay<'_>) -> Result<PathBuf, SetupError> {
    if overlay.layers.is_empty() {
        return Err(SetupError::because("mounting the root", "the job has no layer"));
    }
    overlay.prepare_scratch().step("preparing the scratch directory")?;
    let mut failure = None;
    for way in overlay.ways() {
        match overlay.mount_by(*way) {
            Ok(()) => return Ok(overlay.scratch.join("root")),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| SetupError::because("mounting the root", "no way to do it")))
}

impl Overlay<'_> {
    /// Upper and work directory belong to the job's root user; the first level is for nobody else
    /// on the host, because the job's files may be setuid for its own range.
    fn prepare_scratch(&self) -> io::Result<()> {
        let owner = self.ids.host_id(0);
        for (name, mode) in [("upper", 0o755), ("work", 0o755), ("root", 0o755)] {
            let path = self.scratch.join(name);
            match fs::DirBuilder::new().mode(mode).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => chown(&path, Some(owner), Some(owner))?,
            }
        }
        Ok(())
    }

    fn ways(&self) -> &'static [Lowers] {
        match self.lowers {
            Lowers::Auto => &[Lowers::Descriptors, Lowers::Paths, Lowers::Classic],
            Lowers::Descriptors => &[Lowers::Descriptors],
            Lowers::Paths => &[Lowers::Paths],
            Lowers::Classic => &[Lowers::Classic],
        }
    }

    fn mount_by(&self, way: Lowers) -> Result<(), SetupError> {
        match way {
            Lowers::Auto | Lowers::Descriptors => self.by_descriptors(),
            Lowers::Paths => self.attached(|paths| self.by_paths(paths)),
            Lowers::Classic => self.attached(|paths| self.classic(paths)),
        }
    }

    /// Detached layers go straight into the overlay; they must stay open until it is created.
    fn by_descriptors(&self) -> Result<(), SetupError> {
        let context = self.context()?;
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in self.layers.iter().rev() {
            let tree = mapped_tree(layer, self.ids, LAYER_ATTRIBUTES, false)?;
            fsconfig_set_fd(context.as_fd(), "lowerdir+", tree.as_fd())
                .step_with(|| format!("adding layer {}", layer.display()))?;
            layers.push(tree);
        }
        self.create(&context)
    }

    fn by_paths(&self, lowers: &[PathBuf]) -> Result<(), SetupError> {
        let context = self.context()?;
        for lower in lowers.iter().rev() {
            fsconfig_set_string(context.as_fd(), "lowerdir+", lower.as_path())
                .step_with(|| format!("adding layer {}", lower.display()))?;
        }
        self.create(&context)
    }

    fn classic(&self, lowers: &[PathBuf]) -> Result<(), SetupError> {
        let lower: Vec<_> = lowers.iter().rev().map(|path| path.display().to_string()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            self.scratch.join("upper").display(),
            self.scratch.join("work").display()
        );
        if options.len() > CLASSIC_OPTIONS_MAX {
            return Err(SetupError::because(
                "mounting the root",
                "too many layers for this kernel",
            ));
        }
        let options = CString::new(options).map_err(io::Error::from).step("mounting the root")?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("overlay", self.scratch.join("root"), "overlay", flags, Some(options.as_c_str()))
            .step("mounting the root")
    }

    fn context(&self) -> Result<OwnedFd, SetupError> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).step("opening overlayfs")?;
        fsconfig_set_string(context.as_fd(), "source", "overlay").step("naming the root")?;
        Ok(context)
    }

    fn create(&self, context: &OwnedFd) -> Result<(), SetupError> {
        for (key, name) in [("upperdir", "upper"), ("workdir", "work")] {
            fsconfig_set_string(context.as_fd(), key, self.scratch.join(name))
                .map_err(|error| explained(context, error))
                .step_with(|| format!("setting {key}"))?;
        }
        fsconfig_create(context.as_fd())
            .map_err(|error| explained(context, error))
            .step("creating the overlay")?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .step("mounting the root")?;
        let from = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(root.as_fd(), "", CWD, self.scratch.join("root"), from)
            .step("attaching the root")
    }

    /// Attaches the mapped layers under short paths while `build` runs; the overlay keeps copies.
    fn attached(
        &self,
        build: impl FnOnce(&[PathBuf]) -> Result<(), SetupError>,
    ) -> Result<(), SetupError> {
        let folder = self.scratch.join("lower");
        fs::create_dir_all(&folder).step("preparing the layers")?;
        let mut paths = Vec::with_capacity(self.layers.len());
        let mut built = Ok(());
        for (at, layer) in self.layers.iter().enumerate() {
            let path = folder.join(at.to_string());
            built = self.attach_layer(layer, &path);
            if built.is_err() {
                break;
            }
            paths.push(path);
        }
        if built.is_ok() {
            built = build(&paths);
        }
        for path in &paths {
            // Left mounts end with the supervisor's mount namespace.
            let _ = unmount(path, UnmountFlags::DETACH);
        }
        let _ = fs::remove_dir_all(&folder);
        built
    }

    fn attach_layer(&self, layer: &Path, path: &Path) -> Result<(), SetupError> {
        fs::create_dir_all(path).step("preparing the layers")?;
        let tree = mapped_tree(layer, self.ids, LAYER_ATTRIBUTES, false)?;
        move_mount(tree.as_fd(), "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .step_with(|| format!("attaching layer {}", layer.display()))
    }
}

/// The kernel's own words, when it left some in the context.
fn explained(context: &OwnedFd, error: rustix::io::Errno) -> io::Error {
    let mut text = [0; 512];
    let error = io::Error::from(error);
    let Ok(clone) = context.try_clone() else { return error };
    match fs::File::from(clone).read(&mut text) {
        Ok(count) if count > 0 => {
            let said = String::from_utf8_lossy(&text[..count]);
            io::Error::new(error.kind(), format!("{error} ({})", said.trim()))
        }
        Ok(_) | Err(_) => error,
    }
}
