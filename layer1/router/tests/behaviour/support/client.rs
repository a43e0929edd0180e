//! A connection that speaks HTTP/1.1 by hand, for both sides of a test.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::soon;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection, with what was read and not yet used.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// The head of a message.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// All of it, without the empty line.
    pub(crate) text: String,
}

/// A whole response.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Head {
    pub(crate) fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The value of a header; all lines of that name, joined by `|`.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let lines = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        let values: Vec<&str> = lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect();
        (!values.is_empty()).then(|| values.join("|"))
    }
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.header(name)
    }
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        Self::over(soon("a connection", TcpStream::connect(addr)).await.unwrap())
    }

    pub(crate) fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Ends this direction.
    pub(crate) async fn shutdown(&mut self) {
        drop(self.stream.shutdown().await);
    }

    /// Sends a request and reads its response.
    pub(crate) async fn ask(&mut self, request: &str) -> Answer {
        self.write(request.as_bytes()).await.unwrap();
        self.answer().await
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        soon("a response", self.read_response()).await.expect("a response before the end")
    }

    /// Reads until there are this many bytes, or the end.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        soon("bytes", async {
            while self.buffer.len() < count && self.more().await {}
            let count = count.min(self.buffer.len());
            self.buffer.drain(..count).collect()
        })
        .await
    }

    /// Reads to the end; an aborted connection ends too.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        soon("the end of a connection", async {
            while self.more().await {}
            std::mem::take(&mut self.buffer)
        })
        .await
    }

    /// The next request, or none at the end.
    pub(crate) async fn read_request(&mut self) -> Option<(Head, Vec<u8>)> {
        let head = self.read_head().await?;
        let body = self.read_body(&head, false).await?;
        Some((head, body))
    }

    async fn read_response(&mut self) -> Option<Answer> {
        loop {
            let head = self.read_head().await?;
            let status: u16 = head.first_line().split(' ').nth(1)?.parse().ok()?;
            if status == 100 {
                continue;
            }
            let body = match status {
                101 | 204 | 304 => Vec::new(),
                _ => self.read_body(&head, true).await?,
            };
            return Some(Answer { status, head, body });
        }
    }

    pub(crate) async fn read_head(&mut self) -> Option<Head> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let bytes: Vec<u8> = self.buffer.drain(..end + 4).collect();
                let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
                return Some(Head { text });
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn read_body(&mut self, head: &Head, is_response: bool) -> Option<Vec<u8>> {
        if let Some(length) = head.header("content-length") {
            return self.exactly(length.parse().ok()?).await;
        }
        if head.header("transfer-encoding").is_some() {
            return self.read_chunks().await;
        }
        if is_response {
            while self.more().await {}
            return Some(std::mem::take(&mut self.buffer));
        }
        Some(Vec::new())
    }

    async fn read_chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk().await?;
            if chunk.is_empty() {
                return Some(body);
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// The next chunk of a chunked body, empty at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                break self.buffer.drain(..end + 2).collect::<Vec<u8>>();
            }
            if !self.more().await {
                return None;
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
        let mut chunk = self.exactly(size + 2).await?;
        chunk.truncate(size);
        Some(chunk)
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(read) if read > 0)
    }
}

/// One GET with this Host over a connection of its own.
pub(crate) async fn get_host(addr: SocketAddr, host: &str, path: &str) -> Answer {
    let mut connection = Connection::open(addr).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.ask(&request).await
}
