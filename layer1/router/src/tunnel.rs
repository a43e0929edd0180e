//! Raw bytes both ways between two connections, until both directions have ended.

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

/// The buffer of each direction.
const BUFFER: usize = 16 * 1024;

/// Copies until both sides have closed; the close of one direction is passed on and leaves the other
/// one open.
pub(crate) async fn tunnel<A, B>(mut client: A, mut backend: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    match copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER, BUFFER).await {
        Ok((sent, received)) => tracing::trace!(sent, received, "tunnel ended"),
        Err(error) => tracing::debug!(%error, "tunnel broke"),
    }
}
