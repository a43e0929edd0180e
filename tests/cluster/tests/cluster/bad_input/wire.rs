//! Bytes to a server, and all that it answers until it hangs up: what no HTTP client would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Answers come soon, or the server hangs.
const PATIENCE: Duration = Duration::from_secs(90);
/// More than any answer of a test.
const ANSWER_MAX: u64 = 4 << 20;

/// What is sent and what may come of it.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) request: Vec<u8>,
    pub(super) want: Want,
    /// The client closes its side after the request.
    pub(super) breaks_off: bool,
}

/// What may come of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    /// One answer with this status.
    Status(u16),
    /// One answer with this status and text.
    Text(u16, &'static str),
    /// One answer that says it is the client's fault, or none.
    Refused,
    /// At most one answer, which says it is nobody's fault or the client's.
    Harmless,
}

impl Case {
    pub(super) fn new(name: &str, request: impl Into<Vec<u8>>, want: Want) -> Self {
        Self { name: name.to_owned(), request: request.into(), want, breaks_off: false }
    }

    /// The client closes its side after the request.
    pub(super) fn broken_off(name: &str, request: impl Into<Vec<u8>>) -> Self {
        Self { breaks_off: true, ..Self::new(name, request, Want::Harmless) }
    }

    /// What is wrong with the answer, if anything is.
    pub(super) fn problem(&self, answer: std::io::Result<Vec<u8>>) -> Option<String> {
        let answer = match answer {
            Ok(answer) => String::from_utf8_lossy(&answer).into_owned(),
            Err(error) => return Some(format!("{}: {error}", self.name)),
        };
        let answers = answer.matches("HTTP/1.").count();
        let status: Option<u16> =
            answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let is_fine = match (self.want, status) {
            (Want::Status(want), Some(got)) => answers == 1 && got == want,
            (Want::Text(want, text), Some(got)) => {
                answers == 1 && got == want && answer.ends_with(&format!("\r\n\r\n{text}"))
            }
            (Want::Refused, Some(got)) => answers == 1 && (400..500).contains(&got),
            (Want::Harmless, Some(got)) => answers == 1 && (200..500).contains(&got),
            (Want::Refused | Want::Harmless, None) => answer.is_empty(),
            (Want::Status(_) | Want::Text(..), None) => false,
        };
        let shown: String = answer.chars().take(300).collect();
        (!is_fine).then(|| format!("{}: not {:?}: {shown:?}", self.name, self.want))
    }
}

/// A connection that gives up when the server does nothing.
pub(super) fn connect(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a case's request over a connection of its own; all that comes until the server hangs up.
pub(super) fn ask(addr: SocketAddr, case: &Case) -> std::io::Result<Vec<u8>> {
    let mut stream = connect(addr)?;
    // Who refuses a request may hang up before it has all of it; the answer is there all the same.
    drop(stream.write_all(&case.request));
    if case.breaks_off {
        drop(stream.shutdown(Shutdown::Write));
    }
    rest(&mut stream)
}

/// What comes until the server hangs up, in whatever manner.
pub(super) fn rest(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    match stream.take(ANSWER_MAX).read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            let shown = String::from_utf8_lossy(answer.get(..200).unwrap_or(&answer)).into_owned();
            Err(std::io::Error::other(format!("no end of the answer: {shown:?}")))
        }
        Ok(_) | Err(_) => Ok(answer),
    }
}
