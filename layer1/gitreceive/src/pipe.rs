//! Between blocking code and tasks: bytes through a bounded channel. A writer that is dropped without
//! [`finish`](PipeWriter::finish) is an error at the other side, so that half a stream is never taken
//! for a whole one.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tokio::sync::mpsc;

/// Pieces under way: enough that neither side waits for each single one.
const BOUND: usize = 8;
/// Size of a piece.
const PIECE: usize = 64 << 10;

type Piece = io::Result<Option<Bytes>>;

/// A blocking writer and the stream of what it wrote.
pub(crate) fn writer() -> (PipeWriter, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let (sender, receiver) = mpsc::channel::<Piece>(BOUND);
    let pieces = stream::try_unfold(receiver, async |mut receiver| match receiver.recv().await {
        Some(Ok(Some(bytes))) => Ok(Some((bytes, receiver))),
        Some(Ok(None)) => Ok(None),
        Some(Err(error)) => Err(error),
        None => Err(broken()),
    });
    (PipeWriter { sender, buffer: BytesMut::new() }, pieces)
}

/// A blocking reader and where to put what it reads.
pub(crate) fn reader() -> (PipeFeeder, PipeReader) {
    let (sender, receiver) = mpsc::channel::<Piece>(BOUND);
    (PipeFeeder { sender }, PipeReader { receiver, rest: Bytes::new(), ended: false })
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the stream was cut short")
}

/// Writes from blocking code.
#[derive(Debug)]
pub(crate) struct PipeWriter {
    sender: mpsc::Sender<Piece>,
    buffer: BytesMut,
}

impl PipeWriter {
    /// The stream ends here, and is whole.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(Ok(None))
    }

    fn send(&self, piece: Piece) -> io::Result<()> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more");
        self.sender.blocking_send(piece).map_err(gone)
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.send(Ok(Some(piece)))
    }
}

/// Feeds a reader from a task.
#[derive(Debug)]
pub(crate) struct PipeFeeder {
    sender: mpsc::Sender<Piece>,
}

impl PipeFeeder {
    /// The next bytes. False when nobody reads any more.
    pub(crate) async fn feed(&self, bytes: Bytes) -> bool {
        self.sender.send(Ok(Some(bytes))).await.is_ok()
    }

    /// The stream ends here, and is whole.
    pub(crate) async fn finish(self) {
        // A reader that is gone needs no end.
        drop(self.sender.send(Ok(None)).await);
    }
}

/// Reads in blocking code.
#[derive(Debug)]
pub(crate) struct PipeReader {
    receiver: mpsc::Receiver<Piece>,
    rest: Bytes,
    ended: bool,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Ok(Some(bytes))) => self.rest = bytes,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(error),
                None => return Err(broken()),
            }
        }
        let count = buffer.len().min(self.rest.len());
        let piece = self.rest.split_to(count);
        buffer[..count].copy_from_slice(&piece);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt as _;

    #[tokio::test]
    async fn what_was_not_finished_is_an_error() {
        for is_whole in [true, false] {
            let (mut writer, pieces) = writer();
            let work = tokio::task::spawn_blocking(move || {
                writer.write_all(&[7; 200_000]).unwrap();
                if is_whole {
                    writer.finish().unwrap();
                }
            });
            let mut pieces = Box::pin(pieces);
            let mut length = 0;
            let outcome = loop {
                match pieces.try_next().await {
                    Ok(Some(piece)) => length += piece.len(),
                    Ok(None) => break Ok(length),
                    Err(error) => break Err(error.kind()),
                }
            };
            work.await.unwrap();
            let want = if is_whole { Ok(200_000) } else { Err(io::ErrorKind::UnexpectedEof) };
            assert_eq!(outcome, want);
        }
    }

    #[tokio::test]
    async fn a_reader_gets_all_or_an_error() {
        for is_whole in [true, false] {
            let (feeder, mut reader) = reader();
            let work = tokio::task::spawn_blocking(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).map(|_| all)
            });
            assert!(feeder.feed(Bytes::from_static(b"one ")).await);
            assert!(feeder.feed(Bytes::from_static(b"two")).await);
            if is_whole {
                feeder.finish().await;
            } else {
                drop(feeder);
            }
            let outcome = work.await.unwrap().map_err(|error| error.kind());
            let want =
                if is_whole { Ok(b"one two".to_vec()) } else { Err(io::ErrorKind::UnexpectedEof) };
            assert_eq!(outcome, want);
        }
    }
}
