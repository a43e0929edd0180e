//! The supervisor's ends of the program's standard streams.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kit_units::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::protocol::Stream;
use crate::spool::Spool;

/// Most bytes taken from one stream before others get their turn, and before it is looked at again
/// whether a follower falls behind: an eighth of the spool, within these bounds.
const TURN: std::ops::RangeInclusive<u64> = 4096..=256 * 1024;
/// What clients may send ahead of the program's reading.
pub(super) const STDIN_QUEUE: usize = 256 * 1024;
/// End of file, typed at a terminal.
const TERMINAL_EOF: u8 = 4;

/// Pipes, or a terminal.
#[derive(Debug, Default)]
pub(super) struct Streams {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    queue: VecDeque<u8>,
    stdin_ended: bool,
    is_terminal: bool,
    /// Input before this is kept for the program.
    is_open: bool,
}

impl Streams {
    /// Takes the descriptors that came with init's `Ready`; input that came before goes on its way.
    pub(super) fn open(
        &mut self,
        tty: bool,
        open_stdin: bool,
        fds: Vec<OwnedFd>,
    ) -> io::Result<()> {
        for fd in &fds {
            rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK)?;
        }
        let mut fds = fds.into_iter();
        (self.is_terminal, self.is_open, self.stdout) = (tty, true, fds.next());
        if tty {
            let master = self.stdout.as_ref().filter(|_| open_stdin);
            self.stdin = master.map(OwnedFd::try_clone).transpose()?;
        } else {
            self.stderr = fds.next();
            self.stdin = fds.next();
        }
        if self.stdout.is_none() || (!tty && self.stderr.is_none()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "init sent no streams"));
        }
        if self.stdin.is_none() {
            self.close_input();
        } else if tty && self.stdin_ended {
            self.queue.push_back(TERMINAL_EOF);
        }
        self.feed();
        Ok(())
    }

    /// The descriptor to read output from, while it is open.
    pub(super) fn output(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        match stream {
            Stream::Stdout => self.stdout.as_ref(),
            Stream::Stderr => self.stderr.as_ref(),
            Stream::Init => None,
        }
        .map(AsFd::as_fd)
    }

    /// The descriptor to write input to, while there is input to write.
    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().filter(|_| !self.queue.is_empty()).map(AsFd::as_fd)
    }

    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < STDIN_QUEUE
    }

    /// Whether both outputs have ended.
    pub(super) fn are_drained(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Moves output into its spool.
    pub(super) fn drain(&mut self, stream: Stream, spool: &mut Spool, bound: Bytes) {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
            Stream::Init => return,
        };
        let mut left = (bound.0 / 8).clamp(*TURN.start(), *TURN.end()) as usize;
        let mut chunk = [0; 64 * 1024];
        while let Some(fd) = slot
            && left > 0
        {
            let room = left.min(chunk.len());
            match rustix::io::read(fd, &mut chunk[..room]) {
                Ok(count @ 1..) => {
                    spool.append(&chunk[..count]);
                    left -= count;
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // A terminal answers EIO when nobody has it open any more.
                Ok(0) | Err(_) => *slot = None,
            }
        }
    }

    /// Takes input from a client.
    pub(super) fn push_input(&mut self, bytes: &[u8]) {
        if (self.stdin.is_some() || !self.is_open) && !self.stdin_ended {
            self.queue.extend(bytes);
            self.feed();
        }
    }

    /// No more input comes.
    pub(super) fn end_input(&mut self) {
        if self.is_terminal {
            self.push_input(&[TERMINAL_EOF]);
        }
        self.stdin_ended = true;
        self.feed();
    }

    /// Gives the program as much input as it takes.
    pub(super) fn feed(&mut self) {
        while let Some(stdin) = &self.stdin
            && !self.queue.is_empty()
        {
            let (front, _) = self.queue.as_slices();
            match rustix::io::write(stdin, front) {
                Ok(count) => drop(self.queue.drain(..count)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.close_input(),
            }
        }
        if self.is_open && self.stdin_ended && !self.is_terminal {
            self.close_input();
        }
    }

    /// Sets the terminal's size.
    pub(super) fn resize(&self, height: u16, width: u16) -> Result<(), String> {
        let Some(master) = self.stdout.as_ref().filter(|_| self.is_terminal) else {
            return Err("the job has no terminal".to_owned());
        };
        let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(master, size).map_err(|error| error.to_string())
    }

    /// Gives up on what has not ended by itself.
    pub(super) fn close_all(&mut self) {
        self.is_open = true;
        self.close_input();
        self.stdout = None;
        self.stderr = None;
    }

    fn close_input(&mut self) {
        self.stdin = None;
        self.queue.clear();
    }
}
