//! One connection, one request, one answer, without ever blocking. Plain HTTP/1.1 only: what needs
//! TLS is asked of the daemon.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, connect, socket_with, sockopt,
};

/// Most bytes of an answer that are kept: head and the part of the body anybody looks at.
const MAX_ANSWER: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Zero when only a connection was asked for.
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Exchange {
    socket: OwnedFd,
    request: Vec<u8>,
    sent: usize,
    connected: bool,
    received: Vec<u8>,
    body_wanted: usize,
    deadline: Instant,
}

impl Exchange {
    /// Connects and sends `request` (nothing when empty); done when `body_wanted` bytes of the
    /// body, or all of it, are here.
    pub(super) fn start(
        addr: SocketAddr,
        request: Vec<u8>,
        body_wanted: usize,
        deadline: Instant,
    ) -> io::Result<Self> {
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        let connected = match connect(&socket, &addr) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) => false,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            socket,
            request,
            sent: 0,
            connected,
            received: Vec::new(),
            body_wanted,
            deadline,
        })
    }

    /// Goes on; `Some` when it is over.
    pub(super) fn advance(&mut self, now: Instant) -> Option<io::Result<Answer>> {
        match self.step() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (now >= self.deadline).then(|| Err(io::ErrorKind::TimedOut.into()))
            }
            over => Some(over),
        }
    }

    pub(super) fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        let writing = !self.connected || self.sent < self.request.len();
        (self.socket.as_fd(), if writing { PollFlags::OUT } else { PollFlags::IN })
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    fn step(&mut self) -> io::Result<Answer> {
        if !self.connected {
            self.finish_connect()?;
        }
        if self.request.is_empty() {
            return Ok(Answer { status: 0, location: None, body: Vec::new() });
        }
        while self.sent < self.request.len() {
            self.sent +=
                rustix::net::send(&self.socket, &self.request[self.sent..], SendFlags::NOSIGNAL)?;
        }
        loop {
            let mut chunk = [0; 4096];
            let count = rustix::io::read(&self.socket, &mut chunk)?;
            self.received.extend_from_slice(&chunk[..count]);
            if let Some(answer) = parse(&self.received, self.body_wanted, count == 0)? {
                return Ok(answer);
            }
        }
    }

    fn finish_connect(&mut self) -> io::Result<()> {
        if let Err(error) = sockopt::socket_error(&self.socket)? {
            return Err(error.into());
        }
        match rustix::net::getpeername(&self.socket) {
            Ok(_) => {
                self.connected = true;
                Ok(())
            }
            Err(Errno::NOTCONN) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The answer in `bytes`, or `None` while more has to come.
fn parse(bytes: &[u8], body_wanted: usize, at_end: bool) -> io::Result<Option<Answer>> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let status = head.parse(bytes).map_err(|error| invalid(&error.to_string()))?;
    let httparse::Status::Complete(body_at) = status else {
        return if at_end || bytes.len() > MAX_ANSWER {
            Err(invalid("no answer"))
        } else {
            Ok(None)
        };
    };
    let header = |name: &str| {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let chunked =
        header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let raw = &bytes[body_at..];
    let (body, complete) = if chunked { unchunk(raw) } else { (raw.to_vec(), false) };
    let length = header("content-length").and_then(|value| value.parse::<usize>().ok());
    let wanted = length.unwrap_or(usize::MAX).min(body_wanted);
    if !(complete || at_end || body.len() >= wanted || bytes.len() > MAX_ANSWER) {
        return Ok(None);
    }
    let location = header("location").map(str::to_owned);
    Ok(Some(Answer { status: head.code.unwrap_or(0), location, body }))
}

/// The content of the chunks so far, and whether the last one was among them.
fn unchunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&raw[..end]).ok();
        let size =
            size.and_then(|text| usize::from_str_radix(text.split(';').next()?.trim(), 16).ok());
        let Some(size) = size else { break };
        if size == 0 {
            return (body, true);
        }
        let data = &raw[end + 2..];
        body.extend_from_slice(&data[..size.min(data.len())]);
        let Some(rest) = size.checked_add(2).and_then(|next| data.get(next..)) else { break };
        raw = rest;
    }
    (body, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood_as_soon_as_they_are_complete() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(parse(&plain[..plain.len() - 1], 5120, false).unwrap(), None);
        assert_eq!(parse(plain, 5120, false).unwrap().unwrap().body, b"hello");
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        assert_eq!(parse(chunks, 5120, false).unwrap().unwrap().body, b"hello");
        let redirect =
            b"HTTP/1.1 307 T\r\nLocation: http://10.0.0.1:1111/x\r\nContent-Length: 0\r\n\r\n";
        let answer = parse(redirect, 0, false).unwrap().unwrap();
        assert_eq!(
            (answer.status, answer.location.as_deref()),
            (307, Some("http://10.0.0.1:1111/x"))
        );
        assert!(parse(b"", 0, true).is_err());
        assert!(parse(b"SSH-2.0-OpenSSH\r\n\r\n", 0, false).is_err());
    }
}
