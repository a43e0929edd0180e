//! The daemon's end of a job's socket: connecting, and a blocking exchange for simple callers.
//!
//! From tokio: [`connect`], `set_nonblocking(true)`, `tokio::net::UnixStream::from_std`, then
//! [`ClientFrame::encode`] and [`Decoder`] around the stream. No frame has more than
//! [`MAX_FRAME`](crate::protocol::MAX_FRAME) bytes.
//!
//! A supervisor ends soon after its job: a connection that fails or ends before the awaited
//! [`Notice::EndOfStream`] or final [`Notice::State`] means to look at the disk instead, with
//! [`read_exit`] and [`Spool::open`](crate::Spool::open) from the same offsets on.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::protocol::{
    ClientFrame, Decoder, EXIT_FILE_NAME, ExitRecord, Notice, Order, Request, SOCKET_NAME,
    SupervisorFrame,
};

/// Connects to the supervisor of the job whose directory is `job_dir`. `ConnectionRefused` or
/// `NotFound` mean that there is none (any more): see [`read_exit`].
pub fn connect(job_dir: &Path) -> io::Result<UnixStream> {
    // Through a descriptor, because socket paths are cut at 108 bytes and job directories may be
    // deeper than that.
    let dir = rustix::fs::open(
        job_dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd()))
}

/// The record of the job's end, or `None` when there is none yet. A job without supervisor and
/// without record lost its supervisor: it was killed or the machine went down.
pub fn read_exit(job_dir: &Path) -> io::Result<Option<ExitRecord>> {
    match std::fs::read(job_dir.join(EXIT_FILE_NAME)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A blocking connection to a supervisor.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    next_id: u32,
}

impl Client {
    /// Connects; every later wait is bounded by `timeout`.
    pub fn connect(job_dir: &Path, timeout: Duration) -> io::Result<Self> {
        let stream = connect(job_dir)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream, decoder: Decoder::default(), next_id: 1 })
    }

    /// Sends an order and returns the id its reply will carry.
    pub fn send(&mut self, order: Order) -> io::Result<u32> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.write(&ClientFrame::Request(Request { id, order }))?;
        Ok(id)
    }

    /// Sends any frame.
    pub fn write(&mut self, frame: &ClientFrame) -> io::Result<()> {
        (&self.stream).write_all(&frame.encode())
    }

    /// The next frame; `None` when the supervisor has ended.
    pub fn receive(&mut self) -> io::Result<Option<SupervisorFrame>> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
                return Ok(Some(frame));
            }
            let mut chunk = [0; 64 * 1024];
            match (&self.stream).read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => self.decoder.extend(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends an order and waits for its reply; frames that come before it are handed to `other`.
    pub fn call(
        &mut self,
        order: Order,
        mut other: impl FnMut(SupervisorFrame),
    ) -> io::Result<Result<(), String>> {
        let wanted = self.send(order)?;
        while let Some(frame) = self.receive()? {
            match frame {
                SupervisorFrame::Notice(Notice::Reply { id, error }) if id == wanted => {
                    return Ok(error.map_or(Ok(()), Err));
                }
                frame @ (SupervisorFrame::Notice(_) | SupervisorFrame::Output { .. }) => {
                    other(frame)
                }
            }
        }
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
