//! Network namespaces of jobs, pinned as files so that they need no process.
//!
//! A namespace is entered by a thread made for that and ended after it: never by a worker of the
//! runtime, which others share, and never by fork, which is not safe beside threads. A pin is removed
//! by unmounting and unlinking it; unlinking also removes the copies of the mount that mount
//! namespaces of running supervisors hold.

use std::fs::{DirBuilder, File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use tokio::sync::oneshot;

/// The namespace of the calling thread; the process's own may be another one.
const OWN: &str = "/proc/thread-self/ns/net";

/// Makes a namespace, pins it at `pin` and opens it. An older pin of that name is removed first.
pub(crate) async fn create(pin: PathBuf) -> io::Result<OwnedFd> {
    on_a_thread("netns-create", move || {
        remove(&pin)?;
        if let Some(dir) = pin.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&pin)?;
        // SAFETY: only the network namespace of this thread changes; the thread shares no
        // descriptors' table, memory or file system state differently than before, and ends here.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        rustix::mount::mount_bind(OWN, &pin)?;
        File::open(&pin).map(OwnedFd::from)
    })
    .await
}

/// Unpins a namespace. It is gone when the last process in it is; not being there is success.
pub(crate) fn remove(pin: &Path) -> io::Result<()> {
    match rustix::mount::unmount(pin, UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match std::fs::remove_file(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Runs `work` inside a namespace, on a thread and a small runtime of its own: sockets opened there
/// stay bound to the namespace.
pub(crate) async fn run_inside<F, T>(
    namespace: OwnedFd,
    work: impl FnOnce() -> F + Send + 'static,
) -> io::Result<T>
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    on_a_thread("netns-enter", move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(async move { work().await }))
    })
    .await
}

/// Runs `work` on a thread that ends with it.
async fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (answer, answered) = oneshot::channel();
    let body = move || {
        // The caller may have gone; then nobody wants the answer.
        let _ = answer.send(work());
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
    let ended = |_| io::Error::other("the thread ended without an answer");
    answered.await.map_err(ended)?
}
