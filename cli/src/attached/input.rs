//! What goes to the job: standard input, a file or nothing; with a terminal its size too.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use host_api::FrameWriter;
use host_api::frame::ClientFrame;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::Mutex;

use super::SIGWINCH;

/// Bytes of one frame.
const PIECE: usize = 32 << 10;

/// Where a job's input comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// This process's standard input.
    Stdin,
    /// A file.
    File(tokio::fs::File),
    /// Nowhere: it ends at once.
    Nothing,
}

/// Passes input and sizes on for as long as it is polled.
pub(super) async fn pass(source: Source, tty: bool, writer: &Mutex<FrameWriter>) -> Infallible {
    let piped = async {
        let piped = match source {
            Source::Stdin => pipe(tokio::io::stdin(), writer).await,
            Source::File(file) => pipe(file, writer).await,
            Source::Nothing => pipe(tokio::io::empty(), writer).await,
        };
        if let Err(error) = piped {
            // The reading side of the connection says what became of the job.
            tracing::debug!(%error, "input not passed on");
        }
    };
    tokio::join!(piped, sizes(tty, writer));
    std::future::pending().await
}

async fn pipe(mut source: impl AsyncRead + Unpin, writer: &Mutex<FrameWriter>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        // What cannot be read any more has ended.
        let count = source.read(&mut piece).await.unwrap_or(0);
        let frame = ClientFrame::Stdin(Bytes::copy_from_slice(&piece[..count]));
        writer.lock().await.send(&frame).await?;
        if count == 0 {
            return Ok(());
        }
    }
}

/// Tells of every new size of the terminal.
async fn sizes(tty: bool, writer: &Mutex<FrameWriter>) {
    use tokio::signal::unix::{SignalKind, signal};
    if !tty {
        return;
    }
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        let Some((height, width)) = kit_terminal::size() else { continue };
        let mut writer = writer.lock().await;
        for frame in [ClientFrame::Resize { height, width }, ClientFrame::Signal(SIGWINCH)] {
            if writer.send(&frame).await.is_err() {
                return;
            }
        }
    }
}
