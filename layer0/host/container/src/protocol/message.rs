//! The messages on a job's socket, both directions.
//!
//! On connect the supervisor sends one [`Notice::State`]. Every [`Request`] gets exactly one
//! [`Notice::Reply`], in order. Any number of connections (up to a bound) may be open; a connection
//! whose standard input is not being taken by the job is not read from, so a client that also wants
//! to send orders opens a second one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::StateReport;
use super::frame::{DecodeError, FromFrame, MAX_DATA, RawFrame, frame, json_frame};

/// As an offset in [`Order::OpenOutput`]: only what comes from now on.
pub const OUTPUT_END: u64 = u64::MAX;

const KIND_REQUEST: u8 = 1;
const KIND_STDIN: u8 = 2;
const KIND_STDIN_END: u8 = 3;
const KIND_NOTICE: u8 = 16;
const KIND_OUTPUT: u8 = 17;

/// An output stream of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The program's standard output; with a terminal, all of its output.
    Stdout,
    /// The program's standard error.
    Stderr,
    /// What supervisor and init have to say.
    Init,
}

impl Stream {
    /// All streams, in the order of the wire's numbers 1 to 3.
    pub const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Init];

    /// Number in frames and in the attach protocol: 1, 2, 3.
    pub fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Init => 3,
        }
    }

    /// The stream of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.number() == number)
    }

    /// Name of the stream and of its spool files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Init => "init",
        }
    }
}

/// An order with the number its [`Notice::Reply`] will carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client.
    pub id: u32,
    /// What to do.
    pub order: Order,
}

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Send a [`Notice::State`] before the reply.
    GetState,
    /// Start the program; a second time is fine.
    Resume,
    /// Send a signal to the program. Fails unless it runs.
    Signal {
        /// Signal number.
        signal: i32,
    },
    /// Send output from these offsets on, and follow it; `None` leaves a stream out, [`OUTPUT_END`]
    /// skips what is there. A repeated order replaces the former; output before its reply still
    /// belongs to that. While a client follows, a program
    /// that writes faster than the client reads is held up (for at most 30 s without progress, then
    /// the client is dropped); with no follower the oldest bytes are dropped.
    OpenOutput {
        /// Offset in standard output.
        stdout: Option<u64>,
        /// Offset in standard error.
        stderr: Option<u64>,
        /// Offset in the init log.
        init: Option<u64>,
    },
    /// Set the terminal's size. Fails without a terminal.
    Resize {
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
    /// Take all services out of discoverd, for good.
    Deregister,
    /// The comma list of discoverd URLs to use from now on.
    SetDiscoverd {
        /// As in the environment variable DISCOVERD.
        urls: String,
    },
    /// The answer to a [`Notice::HttpsCheck`].
    HttpsResult {
        /// The `check` of the notice.
        check: u32,
        /// Whether the answer was the expected one.
        healthy: bool,
    },
}

/// What the supervisor tells its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The answer to a request; `error` is `None` on success.
    Reply {
        /// Id of the request.
        id: u32,
        /// What went wrong.
        error: Option<String>,
    },
    /// The job's state, on connect, on [`Order::GetState`] and on every change. The one that says
    /// the job has ended comes after all output this client follows.
    State(Box<StateReport>),
    /// Bytes of a followed stream are gone: they were dropped from the spool before being sent.
    Dropped {
        /// The stream.
        stream: Stream,
        /// Offset of the first missing byte.
        from: u64,
        /// How many are missing.
        bytes: u64,
    },
    /// A followed stream has ended; nothing of it follows.
    EndOfStream {
        /// The stream.
        stream: Stream,
        /// Its length.
        at: u64,
    },
    /// The kernel killed a process of the job for lack of memory.
    OutOfMemory {
        /// Memory in use then, bytes.
        used: u64,
        /// The limit, bytes.
        limit: u64,
        /// Kills so far.
        kills: u64,
    },
    /// A service is up and acknowledged by discoverd.
    ServiceUp {
        /// Its name.
        service: String,
        /// `ip:port`.
        addr: String,
    },
    /// A service was taken out.
    ServiceDown {
        /// Its name.
        service: String,
        /// `ip:port`.
        addr: String,
        /// Why: a failing check, an order, the end of the job.
        reason: String,
    },
    /// Please do this check and answer with [`Order::HttpsResult`]. The last result holds until an
    /// answer comes.
    HttpsCheck(HttpsCheck),
}

/// A request to the daemon to do one https check: TLS not verified, no keep-alive, first 5120
/// bytes of the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpsCheck {
    /// Which service of the job, by position.
    pub check: u32,
    /// `ip:port`.
    pub addr: String,
    /// Host header and SNI.
    pub host: String,
    /// Path of the GET.
    pub path: String,
    /// Expected status.
    pub expect_status: u16,
    /// Text that must occur.
    pub expect_text: String,
    /// Give up after this long.
    pub timeout: Duration,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// An order.
    Request(Request),
    /// Bytes for the program's standard input; at most [`MAX_DATA`] each.
    Stdin(Vec<u8>),
    /// End of standard input.
    StdinEnd,
}

impl ClientFrame {
    /// The frames on the wire; long standard input is cut into several.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Request(request) => json_frame(KIND_REQUEST, request),
            Self::Stdin(bytes) => {
                bytes.chunks(MAX_DATA).flat_map(|chunk| frame(KIND_STDIN, &[chunk])).collect()
            }
            Self::StdinEnd => frame(KIND_STDIN_END, &[]),
        }
    }
}

impl FromFrame for ClientFrame {
    fn from_frame(raw: RawFrame<'_>) -> Result<Self, DecodeError> {
        match raw.kind {
            KIND_REQUEST => Ok(Self::Request(raw.json()?)),
            KIND_STDIN => Ok(Self::Stdin(raw.payload.to_vec())),
            KIND_STDIN_END => Ok(Self::StdinEnd),
            other => Err(DecodeError::UnknownKind(other)),
        }
    }
}

/// What a supervisor sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupervisorFrame {
    /// Bytes of a followed stream.
    Output {
        /// The stream.
        stream: Stream,
        /// Offset of the first byte.
        offset: u64,
        /// At most [`MAX_DATA`] bytes.
        bytes: Vec<u8>,
    },
    /// Anything else.
    Notice(Notice),
}

impl SupervisorFrame {
    /// The frame on the wire.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Output { stream, offset, bytes } => {
                frame(KIND_OUTPUT, &[&[stream.number()], &offset.to_be_bytes(), bytes])
            }
            Self::Notice(notice) => json_frame(KIND_NOTICE, notice),
        }
    }
}

impl FromFrame for SupervisorFrame {
    fn from_frame(raw: RawFrame<'_>) -> Result<Self, DecodeError> {
        match raw.kind {
            KIND_NOTICE => Ok(Self::Notice(raw.json()?)),
            KIND_OUTPUT => output(raw.payload),
            other => Err(DecodeError::UnknownKind(other)),
        }
    }
}

fn output(payload: &[u8]) -> Result<SupervisorFrame, DecodeError> {
    let (number, rest) = payload.split_first().ok_or(DecodeError::Cut)?;
    let (offset, bytes) = rest.split_first_chunk::<8>().ok_or(DecodeError::Cut)?;
    Ok(SupervisorFrame::Output {
        stream: Stream::from_number(*number).ok_or(DecodeError::UnknownStream(*number))?,
        offset: u64::from_be_bytes(*offset),
        bytes: bytes.to_vec(),
    })
}
