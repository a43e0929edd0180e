//! The client's side of an attach connection: the greeting, then frames both ways.

use std::io;

use bytes::BytesMut;
use kit_http::Upgraded;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::frame::{ClientFrame, FrameError, Greeting, ServerFrame};

/// Longest text of a refusal that is read.
const MAX_REFUSAL: u64 = 64 << 10;

/// An open attach connection.
#[derive(Debug)]
pub struct Attachment {
    reader: FrameReader,
    writer: FrameWriter,
}

/// Why attaching failed, or what broke it later.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The host refused.
    #[error("{0}")]
    Refused(String),
    /// The host sent what is no greeting.
    #[error("unknown first byte {0} on an attach connection")]
    Greeting(u8),
    /// The host sent what is no frame.
    #[error("malformed attach frame")]
    Frame(#[from] FrameError),
    /// The connection broke.
    #[error("attach connection broke")]
    Connection(#[from] io::Error),
}

impl Attachment {
    /// An attachment over a connection that is upgraded already. Behind a controller the greeting has
    /// been read, and frames follow.
    pub fn over(connection: Upgraded) -> Self {
        let (reader, writer) = tokio::io::split(connection);
        let reader = FrameReader { reader, buffer: BytesMut::new() };
        Self { reader, writer: FrameWriter { writer } }
    }

    /// The next greeting: whether the job is there. After `Waiting` ask again; a refusal is an error.
    pub async fn greeting(&mut self) -> Result<Greeting, AttachError> {
        let byte = self.reader.reader.read_u8().await?;
        match Greeting::from_byte(byte).ok_or(AttachError::Greeting(byte))? {
            Greeting::Refused => Err(self.reader.refusal().await),
            greeting @ (Greeting::Attached | Greeting::Waiting) => Ok(greeting),
        }
    }

    /// Waits, without a bound, until the host says that the job is attached.
    pub async fn established(mut self) -> Result<Self, AttachError> {
        loop {
            match self.greeting().await? {
                Greeting::Attached => return Ok(self),
                Greeting::Waiting | Greeting::Refused => {}
            }
        }
    }

    /// The two directions apart.
    pub fn split(self) -> (FrameReader, FrameWriter) {
        (self.reader, self.writer)
    }
}

/// Reads what the host sends.
#[derive(Debug)]
pub struct FrameReader {
    reader: ReadHalf<Upgraded>,
    buffer: BytesMut,
}

impl FrameReader {
    /// The next frame; none at the end of the connection. Safe to drop and call again.
    pub async fn next_frame(&mut self) -> Result<Option<ServerFrame>, AttachError> {
        loop {
            if let Some(frame) = ServerFrame::decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The text behind a refusal; its length is dropped and the connection read to its end.
    async fn refusal(&mut self) -> AttachError {
        let mut text = Vec::new();
        match (&mut self.reader).take(MAX_REFUSAL).read_to_end(&mut text).await {
            Ok(_) => {
                let text = text.get(4..).unwrap_or_default();
                AttachError::Refused(String::from_utf8_lossy(text).into_owned())
            }
            Err(error) => AttachError::Connection(error),
        }
    }
}

/// Writes what the client has to say.
#[derive(Debug)]
pub struct FrameWriter {
    writer: WriteHalf<Upgraded>,
}

impl FrameWriter {
    /// Sends one frame.
    pub async fn send(&mut self, frame: &ClientFrame) -> io::Result<()> {
        self.writer.write_all(&frame.encode()).await?;
        self.writer.flush().await
    }
}
