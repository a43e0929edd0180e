//! A mount namespace with a name in the file system: a daemon that was killed comes back to the
//! layer mounts it left, and removing the name removes them all.
//!
//! To be called before the process has any second thread.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::fstatfs;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::thread::{
    CpuSet, LinkNameSpaceType, UnshareFlags, move_into_link_name_space, sched_getaffinity,
    sched_setaffinity, unshare_unsafe,
};

use crate::sys;

const NSFS_MAGIC: i64 = 0x6e73_6673;

/// How the process came into the pinned namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinnedNamespace {
    /// There was none: a fresh copy of the namespace the process was in.
    Created,
    /// An earlier process made it; its mounts are here.
    Reentered,
    /// The process was started inside of it.
    AlreadyInside,
}

/// Enters the mount namespace whose name is `pin`, making both when missing. The folder of `pin`
/// should hold nothing else: it becomes a private mount of its own. Working directory and root of
/// the process are those of the namespace afterwards.
pub fn enter_pinned_mount_namespace(pin: &Path) -> io::Result<PinnedNamespace> {
    if is_namespace(pin)? {
        let target = File::open(pin)?;
        move_into_link_name_space(target.as_fd(), Some(LinkNameSpaceType::Mount))?;
        return Ok(PinnedNamespace::Reentered);
    }
    if fs::read_to_string(pin).is_ok_and(|known| identity().is_ok_and(|own| own == known)) {
        return Ok(PinnedNamespace::AlreadyInside);
    }
    create(pin)?;
    Ok(PinnedNamespace::Created)
}

/// Takes the name away; the namespace and its mounts go with its last process. To be called from
/// outside of it; a missing name is fine.
pub fn remove_pinned_mount_namespace(pin: &Path) -> io::Result<()> {
    if is_namespace(pin)? {
        unmount(pin, UnmountFlags::DETACH)?;
    }
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match unmount(folder(pin)?, UnmountFlags::DETACH) {
        // Not a mount point: nothing was pinned since the machine started.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A namespace can only be named from outside of itself, and only on a private mount; so a forked
/// helper that stays outside does it while this process is inside already.
///
/// The kernel refuses to name a namespace whose number is not above that of the namer's own, and since
/// 6.18 each processor hands out numbers from a range of its own. So namespaces are made on one
/// processor after the other until one can be named; the one that made the outer namespace will do.
fn create(pin: &Path) -> io::Result<()> {
    let folder = folder(pin)?;
    fs::create_dir_all(&folder)?;
    mount_bind(&folder, &folder)?;
    mount_change(&folder, MountPropagationFlags::PRIVATE)?;
    File::create(pin)?;
    let mut namer = Namer::start(pin)?;
    let everywhere = sched_getaffinity(None)?;
    let named = enter_on_some_processor(pin, &everywhere, &mut namer);
    sched_setaffinity(None, &everywhere)?;
    namer.end();
    named
}

fn enter_on_some_processor(pin: &Path, allowed: &CpuSet, namer: &mut Namer) -> io::Result<()> {
    for processor in (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)) {
        let mut only = CpuSet::new();
        only.set(processor);
        sched_setaffinity(None, &only)?;
        go_inside(pin)?;
        if namer.name()? {
            return Ok(());
        }
    }
    Err(io::Error::other("the kernel does not let the mount namespace be named"))
}

/// The helper outside.
struct Namer {
    pid: i32,
    orders: io::PipeWriter,
    answers: io::PipeReader,
}

impl Namer {
    fn start(pin: &Path) -> io::Result<Self> {
        let ((mut order, orders), (answers, mut answer)) = (io::pipe()?, io::pipe()?);
        let own = format!("/proc/{}/ns/mnt", std::process::id());
        let pid = sys::fork()?;
        if pid == 0 {
            drop((orders, answers));
            while order.read_exact(&mut [0]).is_ok() {
                let named = mount_bind(&own, pin).is_ok();
                if answer.write_all(&[u8::from(named)]).is_err() {
                    break;
                }
            }
            sys::exit_now(0);
        }
        Ok(Self { pid, orders, answers })
    }

    /// Names the namespace this process is in now; false when the kernel refuses.
    fn name(&mut self) -> io::Result<bool> {
        self.orders.write_all(&[1])?;
        let mut named = [0];
        self.answers.read_exact(&mut named)?;
        Ok(named == [1])
    }

    fn end(self) {
        drop(self.orders);
        sys::wait_for(self.pid);
    }
}

/// The file under the name tells a process that starts inside where it is.
fn go_inside(pin: &Path) -> io::Result<()> {
    // SAFETY: only the view of mounts changes, no descriptor table.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    fs::write(pin, identity()?)
}

/// This boot and this namespace; the numbers of namespaces repeat after a reboot.
fn identity() -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let namespace = fs::read_link("/proc/self/ns/mnt")?;
    Ok(format!("{} {}\n", boot.trim(), namespace.display()))
}

fn is_namespace(pin: &Path) -> io::Result<bool> {
    match File::open(pin) {
        Ok(file) => Ok(fstatfs(&file)?.f_type as i64 == NSFS_MAGIC),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn folder(pin: &Path) -> io::Result<PathBuf> {
    let folder = pin.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map(Path::to_owned).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
