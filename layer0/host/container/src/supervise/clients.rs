//! Connections of daemons: bounded buffers, output followed by offset, nobody waited for.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::protocol::{
    ClientFrame, DecodeError, Decoder, MAX_DATA, Notice, OUTPUT_END, Stream, SupervisorFrame,
};
use crate::spool::Spool;
use crate::sys;

/// A daemon has one control connection and one for each attach.
const MAX_CLIENTS: usize = 64;
/// Output is put into a client's buffer up to this much; orders' answers go on top.
const BUFFER: usize = 256 * 1024;
/// A client that reads no answers may not pile them up.
const BUFFER_MOST: usize = 1024 * 1024;
/// A follower that takes nothing for this long is dropped, so that it cannot hold up the job.
const STUCK: Duration = Duration::from_secs(30);

/// How long a client that follows nothing yet is listened to when the job has ended.
const HEARING: Duration = Duration::from_millis(500);

/// The job's listening socket, which the launcher has put on standard output.
pub(super) fn listener() -> io::Result<UnixListener> {
    let listener = UnixListener::from(sys::take_standard_output()?);
    listener.local_addr()?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Clients {
    all: Vec<Client>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    decoder: Decoder,
    out: Vec<u8>,
    sent: usize,
    follows: Vec<Follow>,
    sends_stdin: bool,
    last_progress: Instant,
    told_end: bool,
    dead: bool,
    hung_up: bool,
    since: Instant,
}

#[derive(Debug)]
struct Follow {
    stream: Stream,
    at: u64,
    ended: bool,
}

impl Clients {
    /// Takes new connections of root; others are closed at once.
    pub(super) fn accept(
        &mut self,
        listener: &UnixListener,
        greeting: impl Fn() -> Notice,
        now: Instant,
    ) {
        while let Ok((stream, _)) = listener.accept() {
            let is_root =
                rustix::net::sockopt::socket_peercred(&stream).is_ok_and(|peer| peer.uid.is_root());
            if is_root && self.all.len() < MAX_CLIENTS && stream.set_nonblocking(true).is_ok() {
                let mut client = Client::new(stream, now);
                client.notify(&greeting());
                self.all.push(client);
            }
        }
    }

    /// Tells everybody.
    pub(super) fn notify_all(&mut self, notice: &Notice) {
        self.all.iter_mut().for_each(|client| client.notify(notice));
    }

    /// Tells the first one; false when there is none.
    pub(super) fn notify_one(&mut self, notice: &Notice) -> bool {
        self.all.first_mut().map(|client| client.notify(notice)).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&mut self, at: usize) -> Option<&mut Client> {
        self.all.get_mut(at)
    }

    /// What to poll each connection for, in order; `room` is whether standard input takes more.
    pub(super) fn interest(&self, room: bool) -> impl Iterator<Item = (&UnixStream, PollFlags)> {
        self.all.iter().map(move |client| (&client.stream, client.interest(room)))
    }

    /// Fills buffers from the spools, sends, and forgets who is gone.
    pub(super) fn pump(
        &mut self,
        spools: &[Spool; 3],
        closed: [bool; 3],
        room: bool,
        now: Instant,
    ) {
        for client in &mut self.all {
            client.pump(spools, closed, now);
        }
        // Who has hung up stays until the input he left could be taken.
        let waits = |client: &Client| client.sends_stdin && !room && client.decoder.buffered() > 0;
        self.all.retain(|client| !client.dead && (!client.hung_up || waits(client)));
    }

    /// Whether a follower is so far behind that the stream should wait for it.
    pub(super) fn lag_behind(&self, spool: &Spool, stream: Stream, most: u64) -> bool {
        let here = self.all.iter().filter(|client| !client.hung_up);
        let follows = here.flat_map(|client| &client.follows);
        follows
            .filter(|follow| follow.stream == stream)
            .any(|follow| spool.end() - follow.at.min(spool.end()) > most)
    }

    /// Tells of the job's end whoever has got all output he follows.
    pub(super) fn tell_end(&mut self, notice: &Notice) {
        for client in &mut self.all {
            if !client.told_end && client.follows.iter().all(|follow| follow.ended) {
                client.told_end = true;
                client.notify(notice);
            }
        }
    }

    /// Whether everybody knows of the end, and who came late has had time to say what he wants.
    pub(super) fn all_told(&self, now: Instant) -> bool {
        let told =
            |client: &Client| client.told_end && client.pending() == 0 && now >= client.heard_by();
        self.all.iter().all(told)
    }

    /// When a stuck connection has to be looked at.
    pub(super) fn next_timeout(&self, after: Instant) -> Option<Instant> {
        let next = |client: &Client| {
            if client.pending() > 0 {
                Some(client.last_progress + STUCK)
            } else {
                client.told_end.then(|| client.heard_by())
            }
        };
        self.all.iter().filter_map(next).filter(|at| *at > after).min()
    }
}

impl Client {
    fn new(stream: UnixStream, now: Instant) -> Self {
        Self {
            stream,
            decoder: Decoder::default(),
            out: Vec::new(),
            sent: 0,
            follows: Vec::new(),
            sends_stdin: false,
            last_progress: now,
            told_end: false,
            dead: false,
            hung_up: false,
            since: now,
        }
    }

    /// Until when an order to follow output may be on its way from a client that came at the end.
    fn heard_by(&self) -> Instant {
        if self.follows.is_empty() { self.since + HEARING } else { self.since }
    }

    /// Receives what is there; the frames are asked for by [`next_frame`](Self::next_frame).
    pub(super) fn receive(&mut self) {
        let mut chunk = [0; 64 * 1024];
        // Two frames ahead at most: what is not yet understood stays in the socket.
        while self.decoder.buffered() < 2 * MAX_DATA {
            match (&self.stream).read(&mut chunk) {
                Ok(count @ 1..) => self.decoder.extend(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => {
                    self.hung_up = true;
                    return;
                }
            }
        }
    }

    /// The next frame, unless it may be input for which there is no room.
    pub(super) fn next_frame(&mut self, room: bool) -> Option<ClientFrame> {
        if self.sends_stdin && !room {
            return None;
        }
        let frame: Result<Option<ClientFrame>, DecodeError> = self.decoder.next_frame();
        match frame {
            Ok(Some(frame)) => {
                self.sends_stdin |= matches!(frame, ClientFrame::Stdin(_));
                Some(frame)
            }
            Ok(None) => None,
            Err(_) => {
                self.dead = true;
                None
            }
        }
    }

    /// Follows streams from these offsets on.
    pub(super) fn follow(&mut self, wanted: [Option<u64>; 3], spools: &[Spool; 3]) {
        self.follows.clear();
        // The end is told again, after the output.
        self.told_end = false;
        for ((stream, from), spool) in Stream::ALL.into_iter().zip(wanted).zip(spools) {
            let Some(from) = from else { continue };
            let at = if from == OUTPUT_END { spool.end() } else { from };
            self.follows.push(Follow { stream, at, ended: false });
        }
    }

    pub(super) fn notify(&mut self, notice: &Notice) {
        self.push(&SupervisorFrame::Notice(notice.clone()));
        if self.pending() > BUFFER_MOST {
            self.dead = true;
        }
    }

    fn interest(&self, room: bool) -> PollFlags {
        let mut flags = PollFlags::empty();
        if (room || !self.sends_stdin) && !self.hung_up {
            flags |= PollFlags::IN;
        }
        if self.pending() > 0 {
            flags |= PollFlags::OUT;
        }
        flags
    }

    fn pump(&mut self, spools: &[Spool; 3], closed: [bool; 3], now: Instant) {
        // Again and again while the socket takes all: a turn ends when it is full or nothing is left.
        while !self.dead {
            let filled = self.fill(spools, closed);
            self.send(now);
            if !filled || self.pending() > 0 {
                break;
            }
        }
        if self.pending() > 0 && now.duration_since(self.last_progress) > STUCK {
            self.dead = true;
        }
    }

    /// One round of output; false when there was none.
    fn fill(&mut self, spools: &[Spool; 3], closed: [bool; 3]) -> bool {
        let mut any = false;
        if self.follows.iter().all(|follow| follow.ended) || self.pending() >= BUFFER {
            return false;
        }
        let mut chunk = vec![0; MAX_DATA];
        for at in 0..self.follows.len() {
            if self.pending() >= BUFFER || self.follows[at].ended {
                continue;
            }
            let (stream, from) = (self.follows[at].stream, self.follows[at].at);
            let number = usize::from(stream.number() - 1);
            let Ok(found) = spools[number].read(from, &mut chunk) else {
                self.dead = true;
                return false;
            };
            if found.offset > from {
                let bytes = found.offset - from;
                self.push(&SupervisorFrame::Notice(Notice::Dropped { stream, from, bytes }));
            }
            self.follows[at].at = found.offset + found.count as u64;
            if found.count > 0 {
                any = true;
                let bytes = chunk[..found.count].to_vec();
                self.push(&SupervisorFrame::Output { stream, offset: found.offset, bytes });
            } else if closed[number] {
                self.follows[at].ended = true;
                let end = found.offset;
                self.push(&SupervisorFrame::Notice(Notice::EndOfStream { stream, at: end }));
            }
        }
        any
    }

    fn push(&mut self, frame: &SupervisorFrame) {
        self.out.extend_from_slice(&frame.encode());
    }

    fn pending(&self) -> usize {
        self.out.len() - self.sent
    }

    fn send(&mut self, now: Instant) {
        while self.pending() > 0 {
            match (&self.stream).write(&self.out[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    self.last_progress = now;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.hung_up = true;
                    break;
                }
            }
        }
        self.out.clear();
        self.sent = 0;
        self.last_progress = now;
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
