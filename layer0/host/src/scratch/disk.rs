//! One scratch disk: an image file and the place where it is mounted, side by side under one name.
//! Every call blocks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use host_image::{FileSystem, mount_file};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::{ScratchError, io_error};

/// A disk that may or may not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    image: PathBuf,
    mount_point: PathBuf,
}

impl Disk {
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        Self { image: folder.join(format!("{name}.img")), mount_point: folder.join(name) }
    }

    pub(super) fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Makes it from a template and mounts it.
    pub(super) fn make(&self, template: &Path) -> Result<(), ScratchError> {
        copy_sparse(template, &self.image)
            .map_err(io_error("copy the template to", &self.image))?;
        fs::create_dir_all(&self.mount_point).map_err(io_error("make", &self.mount_point))?;
        mount_file(&self.image, &self.mount_point, FileSystem::Ext4)
            .map_err(io_error("mount", &self.image))
    }

    /// Gives it, as it is mounted, another name. Where that fails nothing of either stays.
    pub(super) fn become_disk(&self, other: &Self) -> Result<(), ScratchError> {
        if let Err(error) = self.move_to(other) {
            // Whoever tried makes another one.
            drop(other.remove());
            self.remove()?;
            return Err(error);
        }
        remove_if_there(fs::remove_dir(&self.mount_point))
            .map_err(io_error("remove", &self.mount_point))
    }

    fn move_to(&self, other: &Self) -> Result<(), ScratchError> {
        fs::create_dir_all(&other.mount_point).map_err(io_error("make", &other.mount_point))?;
        let renamed = fs::rename(&self.image, &other.image);
        let moved = renamed
            .and_then(|()| Ok(rustix::mount::mount_move(&self.mount_point, &other.mount_point)?));
        moved.map_err(io_error("move", &self.mount_point))
    }

    /// Unmounts and removes it; missing parts are fine.
    pub(super) fn remove(&self) -> Result<(), ScratchError> {
        // Not mounted is fine; a busy one is detached and its loop device goes with its last user.
        let _ = rustix::mount::unmount(&self.mount_point, UnmountFlags::DETACH);
        remove_if_there(fs::remove_dir(&self.mount_point))
            .map_err(io_error("remove", &self.mount_point))?;
        remove_if_there(fs::remove_file(&self.image)).map_err(io_error("remove", &self.image))
    }
}

fn remove_if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Copies what is written of `from`; the holes stay holes.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let from = File::open(from)?;
    let mut options = OpenOptions::new();
    let to = options.read(true).write(true).create(true).truncate(true).open(to)?;
    to.set_len(from.metadata()?.len())?;
    let mut at = 0;
    while let Some(start) = seek(&from, SeekFrom::Data(at))? {
        let end = seek(&from, SeekFrom::Hole(start))?.unwrap_or(start);
        copy_range(&from, &to, start, end)?;
        at = end;
    }
    Ok(())
}

/// None after the last byte that is written.
fn seek(file: impl AsFd, to: SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, to) {
        Err(Errno::NXIO) => Ok(None),
        other => Ok(Some(other?)),
    }
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let rest = usize::try_from(end - read).unwrap_or(usize::MAX);
        let count =
            rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), rest)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn a_copy_has_the_bytes_and_the_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        for at in [0, 4096 * 7, 33 << 20] {
            file.write_all_at(b"something", at).unwrap();
        }
        copy_sparse(&from, &to).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap(), "the bytes differ");
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20, "the holes are filled");
    }
}
