//! One conversation with the kernel's network configuration, in the network namespace of the calling
//! thread.

use std::future::Future;
use std::time::Duration;

use rtnetlink::Handle;
use rustix::io::Errno;

/// The kernel answers at once; this only bounds a wait for an answer that was lost.
const TIME_OUT: Duration = Duration::from_secs(20);

/// What went wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// No netlink socket.
    #[error("cannot talk to the kernel's network configuration")]
    Socket(#[source] std::io::Error),
    /// A request was refused.
    #[error("cannot {action} {object}")]
    Request { action: &'static str, object: String, source: rtnetlink::Error },
    /// The tunnel device's name belongs to somebody else.
    #[error(
        "link {0} exists and is not ours: remove it, or give the cluster another VNI (Backend in the metadata of service flannel)"
    )]
    Foreign(String),
    /// No answer.
    #[error("the kernel did not answer within {} s", TIME_OUT.as_secs())]
    TimedOut,
}

/// Opens a socket, runs `work` with it and closes it: no task of ours outlives the call.
pub(crate) async fn with_netlink<F, T>(work: impl FnOnce(Handle) -> F) -> Result<T, KernelError>
where
    F: Future<Output = Result<T, KernelError>>,
{
    let (connection, handle, _messages) =
        rtnetlink::new_connection().map_err(KernelError::Socket)?;
    let work = tokio::time::timeout(TIME_OUT, work(handle));
    tokio::select! {
        result = work => result.map_err(|_| KernelError::TimedOut)?,
        () = connection => Err(KernelError::Socket(std::io::ErrorKind::ConnectionAborted.into())),
    }
}

/// One request, with what it was about for whoever reads its failure.
pub(crate) async fn request<T>(
    action: &'static str,
    object: impl std::fmt::Display,
    future: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, KernelError> {
    let object = object.to_string();
    future.await.map_err(|source| KernelError::Request { action, object, source })
}

/// Whether the kernel said this.
pub(crate) fn is_errno(error: &rtnetlink::Error, errno: Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno.raw_os_error())
}
