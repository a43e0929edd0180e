//! The frames of an attach connection, both directions (spec/host.md §6, §15). Pure: bytes in, frames
//! out. The first byte of the server's side, before any frame, is a [`Greeting`].

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

const SUCCESS: u8 = 0;
const WAITING: u8 = 1;
const ERROR: u8 = 2;
const DATA: u8 = 3;
const SIGNAL: u8 = 4;
const EXIT: u8 = 5;
const RESIZE: u8 = 6;

/// Most bytes of one frame's data that are read.
pub const MAX_FRAME: usize = 16 << 20;

/// The first bytes from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Attached: frames follow.
    Attached,
    /// The job is not there yet; another greeting follows.
    Waiting,
    /// Refused: a length and a text follow.
    Refused,
}

impl Greeting {
    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            Self::Attached => SUCCESS,
            Self::Waiting => WAITING,
            Self::Refused => ERROR,
        }
    }

    /// The greeting of a byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            SUCCESS => Some(Self::Attached),
            WAITING => Some(Self::Waiting),
            ERROR => Some(Self::Refused),
            _ => None,
        }
    }
}

/// An output stream of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
    /// What supervisor and init say.
    Init,
}

impl Stream {
    /// The number on the wire, 1 to 3.
    pub fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Init => 3,
        }
    }

    /// The stream of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Stdout, Self::Stderr, Self::Init]
            .into_iter()
            .find(|stream| stream.number() == number)
    }
}

/// What a host sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame {
    /// Output; none at all is the stream's end.
    Data(Stream, Bytes),
    /// The program's exit status; the last frame.
    Exit(u32),
    /// Why there is no exit status; the last frame.
    Error(String),
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// Standard input; none at all is its end.
    Stdin(Bytes),
    /// A signal for the program.
    Signal(u32),
    /// The terminal's size.
    Resize {
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
}

/// Why bytes are no frame. The connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame begins with this byte.
    #[error("unknown frame type {0}")]
    UnknownType(u8),
    /// No stream has this number in this direction.
    #[error("unknown stream {0}")]
    UnknownStream(u8),
    /// A frame larger than anybody has reason to send.
    #[error("frame of {0} bytes is larger than {MAX_FRAME}")]
    TooLarge(usize),
}

impl ServerFrame {
    /// The frame's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Data(stream, bytes) => {
                out.put_u8(DATA);
                out.put_u8(stream.number());
                put_sized(&mut out, bytes);
            }
            Self::Exit(status) => {
                out.put_u8(EXIT);
                out.put_u32(*status);
            }
            Self::Error(text) => {
                out.put_u8(ERROR);
                put_sized(&mut out, text.as_bytes());
            }
        }
        out.freeze()
    }

    /// Takes the next whole frame off `buffer`; none until more bytes come.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(kind) = buffer.first().copied() else { return Ok(None) };
        match kind {
            DATA => {
                let Some(number) = buffer.get(1).copied() else { return Ok(None) };
                let stream =
                    Stream::from_number(number).ok_or(FrameError::UnknownStream(number))?;
                Ok(take_sized(buffer, 2)?.map(|bytes| Self::Data(stream, bytes)))
            }
            EXIT => {
                Ok(take_fixed(buffer)
                    .map(|[a, b, c, d]| Self::Exit(u32::from_be_bytes([a, b, c, d]))))
            }
            ERROR => {
                let text = take_sized(buffer, 1)?;
                Ok(text.map(|text| Self::Error(String::from_utf8_lossy(&text).into_owned())))
            }
            other => Err(FrameError::UnknownType(other)),
        }
    }
}

impl ClientFrame {
    /// The frame's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Stdin(bytes) => {
                out.put_u8(DATA);
                out.put_u8(0);
                put_sized(&mut out, bytes);
            }
            Self::Signal(number) => {
                out.put_u8(SIGNAL);
                out.put_u32(*number);
            }
            Self::Resize { height, width } => {
                out.put_u8(RESIZE);
                out.put_u16(*height);
                out.put_u16(*width);
            }
        }
        out.freeze()
    }

    /// Takes the next whole frame off `buffer`; none until more bytes come.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(kind) = buffer.first().copied() else { return Ok(None) };
        match kind {
            DATA => match buffer.get(1).copied() {
                None => Ok(None),
                Some(0) => Ok(take_sized(buffer, 2)?.map(Self::Stdin)),
                Some(other) => Err(FrameError::UnknownStream(other)),
            },
            SIGNAL => Ok(take_fixed(buffer).map(|bytes| Self::Signal(u32::from_be_bytes(bytes)))),
            RESIZE => Ok(take_fixed(buffer).map(|[a, b, c, d]| Self::Resize {
                height: u16::from_be_bytes([a, b]),
                width: u16::from_be_bytes([c, d]),
            })),
            other => Err(FrameError::UnknownType(other)),
        }
    }
}

fn put_sized(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

/// The data behind a head of `head` bytes and a length, once it is all there.
fn take_sized(buffer: &mut BytesMut, head: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(length) = buffer.get(head..head + 4) else { return Ok(None) };
    let length = length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    if buffer.len() < head + 4 + length {
        return Ok(None);
    }
    buffer.advance(head + 4);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// The four bytes behind the type.
fn take_fixed(buffer: &mut BytesMut) -> Option<[u8; 4]> {
    let bytes: [u8; 4] = buffer.get(1..5)?.try_into().ok()?;
    buffer.advance(5);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(hex: &str) -> Result<Option<ServerFrame>, FrameError> {
        ServerFrame::decode(&mut bytes_of(hex))
    }

    fn bytes_of(hex: &str) -> BytesMut {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    #[test]
    fn frames_of_the_server_are_those_of_the_worked_example() {
        let data = |stream, text: &'static str| {
            ServerFrame::Data(stream, Bytes::from_static(text.as_bytes()))
        };
        for (wire, frame) in [
            ("03 01 00000003 6f6b0a", data(Stream::Stdout, "ok\n")),
            ("03 02 00000002 6e6f", data(Stream::Stderr, "no")),
            ("03 03 00000001 78", data(Stream::Init, "x")),
            ("03 01 00000000", data(Stream::Stdout, "")),
            ("05 00000001", ServerFrame::Exit(1)),
            (
                "02 00000015 686f73743a206a6f62206e6f742072756e6e696e67",
                ServerFrame::Error("host: job not running".to_owned()),
            ),
        ] {
            assert_eq!(frame.encode(), bytes_of(wire).freeze(), "{wire}");
            assert_eq!(server(wire), Ok(Some(frame)), "{wire}");
        }
        assert_eq!(server("07"), Err(FrameError::UnknownType(7)));
        assert_eq!(server("03 04 00000000"), Err(FrameError::UnknownStream(4)));
        assert_eq!(server("03 01 ffffffff"), Err(FrameError::TooLarge(0xffff_ffff)));
    }

    #[test]
    fn frames_of_the_client_are_those_of_the_worked_example() {
        for (wire, frame) in [
            ("03 00 00000002 6869", ClientFrame::Stdin(Bytes::from_static(b"hi"))),
            ("03 00 00000000", ClientFrame::Stdin(Bytes::new())),
            ("04 00000002", ClientFrame::Signal(2)),
            ("06 0018 0050", ClientFrame::Resize { height: 24, width: 80 }),
        ] {
            assert_eq!(frame.encode(), bytes_of(wire).freeze(), "{wire}");
            assert_eq!(ClientFrame::decode(&mut bytes_of(wire)), Ok(Some(frame)), "{wire}");
        }
        let wrong = ClientFrame::decode(&mut bytes_of("03 01 00000000"));
        assert_eq!(wrong, Err(FrameError::UnknownStream(1)));
    }

    #[test]
    fn a_frame_in_pieces_comes_once_and_whole() {
        let wire = bytes_of("03 01 00000003 6f6b0a 05 00000001");
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for byte in wire {
            buffer.put_u8(byte);
            while let Some(frame) = ServerFrame::decode(&mut buffer).unwrap() {
                frames.push(frame);
            }
        }
        let data = ServerFrame::Data(Stream::Stdout, Bytes::from_static(b"ok\n"));
        assert_eq!(frames, [data, ServerFrame::Exit(1)]);
    }
}
