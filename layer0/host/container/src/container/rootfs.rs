//! Finding and making places inside a job's root without ever leaving it: the image's own links
//! are followed as the job would follow them, never as the host would.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::container::IdMap;
use crate::error::{SetupError, Step};

/// What a mount point has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    File,
}

/// Symbolic links within links that are followed while a missing path is made.
const MAX_DEPTH: usize = 64;

/// A job's root, as seen from the host.
pub(crate) struct InRoot<'a> {
    root: OwnedFd,
    path: PathBuf,
    ids: IdMap<'a>,
}

impl<'a> InRoot<'a> {
    pub(crate) fn open(path: &Path, ids: IdMap<'a>) -> Result<Self, SetupError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = rustix::fs::open(path, flags, Mode::empty()).step("opening the root")?;
        Ok(Self { root, path: path.to_owned(), ids })
    }

    /// Makes sure that `name` directly under the root is a real directory, not a link of the image,
    /// and gives its path on the host.
    pub(crate) fn plain_dir(&self, name: &str) -> Result<PathBuf, SetupError> {
        match rustix::fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            Ok(_) => {
                return Err(SetupError::because(
                    format!("using /{name} of the image"),
                    "it must be a directory",
                ));
            }
            Err(Errno::NOENT) => drop(self.make(self.root.as_fd(), OsStr::new(name), Kind::Dir)?),
            Err(error) => return Err(SetupError::new(format!("looking at /{name}"), error.into())),
        }
        Ok(self.path.join(name))
    }

    /// A descriptor of `place` inside the root, made when it is missing.
    pub(crate) fn place(&self, place: &str, kind: Kind) -> Result<OwnedFd, SetupError> {
        self.find_or_make(Path::new(place), kind, MAX_DEPTH)
    }

    fn find_or_make(&self, place: &Path, kind: Kind, depth: usize) -> Result<OwnedFd, SetupError> {
        let step = || format!("making {} in the root", place.display());
        match self.find(place, kind) {
            Ok(found) => return Ok(found),
            Err(Errno::NOENT) if depth > 0 => {}
            Err(error) => return Err(SetupError::new(step(), error.into())),
        }
        let name = match place.components().next_back() {
            Some(Component::Normal(name)) => name,
            Some(
                Component::ParentDir
                | Component::CurDir
                | Component::RootDir
                | Component::Prefix(_),
            )
            | None => return Err(SetupError::because(step(), "not a path below the root")),
        };
        let parent = place.parent().unwrap_or(Path::new("/"));
        let parent = self.find_or_make(parent, Kind::Dir, depth - 1)?;
        self.make(parent.as_fd(), name, kind)
    }

    fn find(&self, place: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if kind == Kind::Dir {
            flags |= OFlags::DIRECTORY;
        }
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let place = if place.as_os_str().is_empty() { Path::new("/") } else { place };
        rustix::fs::openat2(&self.root, place, flags, Mode::empty(), inside)
    }

    /// Makes one entry, owned by the job's root. A link that leads nowhere gives way.
    fn make(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        kind: Kind,
    ) -> Result<OwnedFd, SetupError> {
        let step = || format!("making {} in the root", name.display());
        let made = self.make_once(parent, name, kind);
        let made = match made {
            Err(Errno::EXIST) if is_link(parent, name) => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty()).step_with(step)?;
                self.make_once(parent, name, kind)
            }
            other => other,
        };
        made.step_with(step)
    }

    fn make_once(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        kind: Kind,
    ) -> Result<OwnedFd, Errno> {
        match kind {
            Kind::Dir => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
            Kind::File => {
                let flags = OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::WRONLY
                    | OFlags::CLOEXEC
                    | OFlags::NOFOLLOW;
                drop(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))?);
            }
        }
        let owner = self.ids.host_id(0);
        rustix::fs::chownat(
            parent,
            name,
            Some(Uid::from_raw(owner)),
            Some(Gid::from_raw(owner)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        rustix::fs::openat(
            parent,
            name,
            OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )
    }
}

fn is_link(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}
