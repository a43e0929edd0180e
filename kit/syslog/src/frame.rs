//! Octet-counted frames (RFC 6587): `LEN SP MSG`, one after the other on a connection. Files have
//! [`crate::file`].

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// The longest message a frame may hold.
pub const MAX_FRAME: usize = 11_000;

/// The longest length that is read, in digits.
const MAX_DIGITS: usize = 5;

/// Splits a stream into frames. Errors are final: after a wrong length nobody knows where the next frame
/// begins.
#[derive(Clone, Copy, Debug)]
pub struct FrameCodec {
    limit: usize,
}

/// Why a stream holds no further frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream broke.
    #[error("cannot read the stream of frames")]
    Io(#[from] std::io::Error),
    /// What stands for the length is no number; a newline between frames is such a case.
    #[error("frame length {0:?} is not a number")]
    NotANumber(String),
    /// The length has too many digits.
    #[error("frame length has more than {MAX_DIGITS} digits")]
    TooManyDigits,
    /// The message is longer than frames may be.
    #[error("frame of {length} bytes is longer than {limit}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The bound.
        limit: usize,
    },
}

impl FrameCodec {
    /// Frames as hosts send them: one after the other.
    pub fn stream() -> Self {
        Self { limit: MAX_FRAME }
    }

    /// The same with another bound on messages, up to 99,999 bytes.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The length of the next frame and of the prefix that says so; None until more bytes come.
    fn length(&self, bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
        let seen = &bytes[..bytes.len().min(MAX_DIGITS + 1)];
        let digits = seen.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match seen.get(digits) {
            Some(b' ') if (1..=MAX_DIGITS).contains(&digits) => {}
            None if digits <= MAX_DIGITS => return Ok(None),
            _ if digits > MAX_DIGITS => return Err(FrameError::TooManyDigits),
            Some(_) | None => {
                return Err(FrameError::NotANumber(String::from_utf8_lossy(seen).into_owned()));
            }
        }
        let add = |sum: usize, digit: &u8| sum * 10 + usize::from(digit - b'0');
        let length = bytes[..digits].iter().fold(0, add);
        if length > self.limit {
            return Err(FrameError::TooLong { length, limit: self.limit });
        }
        Ok(Some((digits + 1, length)))
    }
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some((prefix, length)) = self.length(bytes)? else { return Ok(None) };
        let whole = prefix + length;
        if bytes.len() < whole {
            bytes.reserve(whole - bytes.len());
            return Ok(None);
        }
        bytes.advance(prefix);
        Ok(Some(bytes.split_to(length).freeze()))
    }
}

impl<T: AsRef<[u8]>> Encoder<T> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, message: T, bytes: &mut BytesMut) -> Result<(), FrameError> {
        let message = message.as_ref();
        let length = message.len();
        if length > self.limit {
            return Err(FrameError::TooLong { length, limit: self.limit });
        }
        let prefix = format!("{length} ");
        bytes.reserve(prefix.len() + length);
        bytes.put_slice(prefix.as_bytes());
        bytes.put_slice(message);
        Ok(())
    }
}
