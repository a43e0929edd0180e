//! A file system in a file, mounted over a loop device that goes with the mount. Done by system calls:
//! a start of a job waits for it, and a mount program takes ten times as long to be started.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl};
use rustix::mount::MountFlags;

/// What is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// A layer; never written to.
    Squashfs,
    /// A disk, written to.
    Ext4,
}

impl FileSystem {
    fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Ext4 => "ext4",
        }
    }

    fn is_written(self) -> bool {
        self == Self::Ext4
    }

    fn flags(self) -> MountFlags {
        let always = MountFlags::NOSUID | MountFlags::NODEV;
        always | if self.is_written() { MountFlags::NOATIME } else { MountFlags::RDONLY }
    }
}

/// Others may take the free device between the kernel's answer and our use of it.
const ATTEMPTS: usize = 100;

/// Mounts the file system in `image` at `place`. Blocks for some milliseconds.
pub fn mount_file(image: &Path, place: &Path, kind: FileSystem) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(kind.is_written()).open(image)?;
    let (device, _open) = attach(&file, image, kind)?;
    // The device has its user now: it goes with the mount, also when nobody is left to detach it.
    rustix::mount::mount(&device, place, kind.name(), kind.flags(), None)?;
    Ok(())
}

/// A loop device over `file` that goes with its last user; the open one is the first.
fn attach(file: &File, image: &Path, kind: FileSystem) -> io::Result<(PathBuf, File)> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let mut options = OpenOptions::new();
    options.read(true).write(kind.is_written());
    for _ in 0..ATTEMPTS {
        let device = PathBuf::from(format!("/dev/loop{}", free_number(control.as_fd())?));
        let open = options.open(&device)?;
        match configure(open.as_fd(), file, image, kind) {
            Ok(()) => return Ok((device, open)),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "every free loop device was taken by others"))
}

const LOOP_CONFIGURE: Opcode = 0x4c0a;
const LOOP_CTL_GET_FREE: Opcode = 0x4c82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const NAME: usize = 64;

/// `struct loop_config` of linux/loop.h, with `struct loop_info64` in it.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; NAME],
    crypt_name: [u8; NAME],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

fn configure(
    device: BorrowedFd<'_>,
    file: &File,
    image: &Path,
    kind: FileSystem,
) -> io::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?,
        block_size: 0,
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_AUTOCLEAR | if kind.is_written() { 0 } else { LO_FLAGS_READ_ONLY },
        file_name: shown(image),
        crypt_name: [0; NAME],
        encrypt_key: [0; 32],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads a loop_config, which this is, and keeps no pointer into it.
    unsafe { ioctl(device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }?;
    Ok(())
}

/// The name that lists of loop devices show; the kernel cuts it too.
fn shown(image: &Path) -> [u8; NAME] {
    let mut name = [0; NAME];
    let bytes = image.as_os_str().as_encoded_bytes();
    let length = bytes.len().min(NAME - 1);
    name[..length].copy_from_slice(&bytes[..length]);
    name
}

fn free_number(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: the request has no argument; its answer is the number it returns.
    Ok(unsafe { ioctl(control, GetFree) }?)
}

/// The request for the number of a free device.
struct GetFree;

// SAFETY: the request reads and writes no memory of ours; only the returned number is looked at.
unsafe impl Ioctl for GetFree {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(number: IoctlOutput, _: *mut c_void) -> rustix::io::Result<u32> {
        u32::try_from(number).map_err(|_| rustix::io::Errno::NODEV)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_kernels_structure_has_its_size() {
        assert_eq!(std::mem::size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn what_is_no_file_system_leaves_no_device() {
        let dir = tempfile::tempdir().unwrap();
        let (image, place) = (dir.path().join("image"), dir.path().join("place"));
        std::fs::write(&image, vec![0; 1 << 20]).unwrap();
        std::fs::create_dir(&place).unwrap();
        for kind in [FileSystem::Squashfs, FileSystem::Ext4] {
            assert!(mount_file(&image, &place, kind).is_err());
        }
        let is_ours = |device: std::fs::DirEntry| {
            let file = std::fs::read_to_string(device.path().join("loop/backing_file"));
            file.is_ok_and(|file| file.starts_with(&image.display().to_string()))
        };
        // One that others look at as well (udev does) goes when they have closed it.
        let started = Instant::now();
        while std::fs::read_dir("/sys/block").unwrap().flatten().any(is_ours) {
            assert!(started.elapsed() < Duration::from_secs(60), "a device stays");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
