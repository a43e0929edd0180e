//! Framing: a big-endian u32 length, one kind byte, a payload. Pure: bytes in, frames out.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most bytes of standard input or output in one frame.
pub const MAX_DATA: usize = 64 * 1024;
/// Most bytes of any frame; a peer that announces more is not one of ours.
pub const MAX_FRAME: usize = 256 * 1024;

const HEADER: usize = 4;

/// Why received bytes are no message. The connection is then of no further use.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A frame longer than [`MAX_FRAME`], or without a kind.
    #[error("frame of {0} bytes")]
    Length(usize),
    /// A kind this release does not know.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// A stream this release does not know.
    #[error("unknown stream {0}")]
    UnknownStream(u8),
    /// A payload shorter than its kind needs.
    #[error("frame is cut short")]
    Cut,
    /// A payload that is not the JSON it should be.
    #[error("malformed message")]
    Json(#[from] serde_json::Error),
}

/// One frame, not yet understood.
#[derive(Clone, Copy, Debug)]
pub struct RawFrame<'a> {
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
}

impl RawFrame<'_> {
    pub(super) fn json<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        Ok(serde_json::from_slice(self.payload)?)
    }
}

/// A message type that frames can be turned into.
pub trait FromFrame: Sized {
    /// Reads one frame.
    fn from_frame(raw: RawFrame<'_>) -> Result<Self, DecodeError>;
}

/// Collects received bytes and gives the frames in them.
///
/// ```
/// use host_container::protocol::{ClientFrame, Decoder};
/// let mut decoder = Decoder::default();
/// decoder.extend(&ClientFrame::Stdin(b"hi".to_vec()).encode());
/// assert_eq!(decoder.next_frame().unwrap(), Some(ClientFrame::Stdin(b"hi".to_vec())));
/// assert_eq!(decoder.next_frame::<ClientFrame>().unwrap(), None);
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Adds received bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start > 0 && (self.start == self.buffer.len() || self.start > MAX_FRAME) {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes wait for the rest of their frame or for being asked for.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next complete frame, or `None` until more bytes have come.
    pub fn next_frame<T: FromFrame>(&mut self) -> Result<Option<T>, DecodeError> {
        let pending = &self.buffer[self.start..];
        let Some((header, rest)) = pending.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes(*header) as usize;
        if length == 0 || length > MAX_FRAME {
            return Err(DecodeError::Length(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = T::from_frame(RawFrame { kind: body[0], payload: &body[1..] })?;
        self.start += HEADER + length;
        Ok(Some(message))
    }
}

/// One frame of `kind` whose payload is `parts` after each other.
pub(super) fn frame(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(HEADER + length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.push(kind);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// One frame of `kind` with a JSON payload.
pub(super) fn json_frame<T: Serialize>(kind: u8, message: &T) -> Vec<u8> {
    // Our messages hold no maps with other than text keys, so they always have a JSON form.
    let payload = serde_json::to_vec(message).unwrap_or_default();
    frame(kind, &[&payload])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ClientFrame, Order, Request, Stream, SupervisorFrame};
    use super::*;

    proptest! {
        #[test]
        fn frames_survive_any_cut(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..20), step in 1usize..50) {
            let sent: Vec<_> = chunks.iter().enumerate().map(|(at, bytes)| SupervisorFrame::Output {
                stream: Stream::ALL[at % 3], offset: at as u64, bytes: bytes.clone(),
            }).collect();
            let wire: Vec<u8> = sent.iter().flat_map(SupervisorFrame::encode).collect();
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for piece in wire.chunks(step) {
                decoder.extend(piece);
                while let Some(message) = decoder.next_frame::<SupervisorFrame>().unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert_eq!(decoder.buffered(), 0);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.extend(&bytes);
            while let Ok(Some(_)) = decoder.next_frame::<ClientFrame>() {}
        }
    }

    #[test]
    fn long_input_is_cut_into_frames_of_bounded_size() {
        let mut decoder = Decoder::default();
        decoder.extend(&ClientFrame::Stdin(vec![7; MAX_DATA * 2 + 1]).encode());
        let mut sizes = Vec::new();
        while let Some(ClientFrame::Stdin(bytes)) = decoder.next_frame().unwrap() {
            sizes.push(bytes.len());
        }
        assert_eq!(sizes, [MAX_DATA, MAX_DATA, 1]);
    }

    #[test]
    fn an_announced_monster_is_refused_before_it_arrives() {
        let mut decoder = Decoder::default();
        decoder.extend(&u32::MAX.to_be_bytes());
        assert!(matches!(decoder.next_frame::<ClientFrame>(), Err(DecodeError::Length(_))));
    }

    #[test]
    fn orders_read_back_as_written() {
        for order in [
            Order::GetState,
            Order::Resume,
            Order::Signal { signal: 15 },
            Order::OpenOutput {
                stdout: Some(0),
                stderr: None,
                init: Some(super::super::OUTPUT_END),
            },
            Order::Resize { height: 24, width: 80 },
            Order::SetDiscoverd { urls: "http://127.0.0.1:1111".to_owned() },
        ] {
            let sent = ClientFrame::Request(Request { id: 3, order });
            let mut decoder = Decoder::default();
            decoder.extend(&sent.encode());
            assert_eq!(decoder.next_frame().unwrap(), Some(sent));
        }
    }
}
