//! Server-sent events, the reading side: a bounded incremental parser. It opens no connection and
//! never reconnects; [`crate::EventStream`] feeds it.

use crate::client::ClientError;

/// One item of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseItem {
    /// The item's `id:` line, if it had one.
    pub id: Option<String>,
    /// The item's `data:` lines, joined by newlines.
    pub data: String,
}

/// Why a stream of events ended other than by its normal end.
#[derive(Debug, thiserror::Error)]
pub enum SseError {
    /// The server ended the stream with an error event.
    #[error("Server error: {0}")]
    Server(String),
    /// One item is larger than the reader takes.
    #[error("event is larger than {limit} bytes")]
    TooLarge {
        /// The reader's bound.
        limit: usize,
    },
    /// The item's data is not the JSON that was expected.
    #[error("event is not the expected JSON")]
    Decode(#[source] serde_json::Error),
    /// The connection broke, or was silent for too long.
    #[error("event stream broke")]
    Transport(#[source] Box<ClientError>),
}

/// Takes a stream's bytes in pieces of any size and gives its items.
///
/// Lines end with LF or CR LF. Lines other than `data:`, `id:` and `event:` are skipped, comments too.
/// An item that the end of the stream cuts off is dropped.
#[derive(Debug)]
pub struct SseParser {
    limit: usize,
    buffer: Vec<u8>,
    /// How much of the buffer was handed on.
    consumed: usize,
    /// Up to where the buffer holds no line end, so that long lines are not searched again and again.
    searched: usize,
    record: Record,
}

#[derive(Debug, Default)]
struct Record {
    id: Option<String>,
    data: Option<Vec<u8>>,
    is_error: bool,
    size: usize,
}

impl SseParser {
    /// A parser whose items have at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), consumed: 0, searched: 0, record: Record::default() }
    }

    /// Adds bytes from the stream. Take all items with [`next_item`](Self::next_item) before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.consumed);
        self.searched -= self.consumed;
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete item, or None until more bytes come. An error is final.
    pub fn next_item(&mut self) -> Result<Option<SseItem>, SseError> {
        while let Some(line) = self.next_line()? {
            if let Some(done) = self.record.take_line(&line) {
                return done.map(Some);
            }
        }
        Ok(None)
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, SseError> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let end = found.map_or(self.buffer.len(), |at| self.searched + at);
        if self.record.size + (end - self.consumed) > self.limit {
            return Err(SseError::TooLarge { limit: self.limit });
        }
        if found.is_none() {
            self.searched = end;
            return Ok(None);
        }
        let line = &self.buffer[self.consumed..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.consumed = end + 1;
        self.searched = self.consumed;
        Ok(Some(line))
    }
}

impl Record {
    /// Takes a line; the empty one completes the record, if there is one.
    fn take_line(&mut self, line: &[u8]) -> Option<Result<SseItem, SseError>> {
        if line.is_empty() {
            return std::mem::take(self).finish();
        }
        let (field, value) = split_field(line);
        match field {
            b"data" => {
                self.size += value.len() + 1;
                match &mut self.data {
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                    None => self.data = Some(value.to_vec()),
                }
            }
            b"id" => {
                self.size += value.len();
                self.id = Some(String::from_utf8_lossy(value).into_owned());
            }
            b"event" => self.is_error = value == b"error",
            _ => {}
        }
        None
    }

    fn finish(self) -> Option<Result<SseItem, SseError>> {
        let text = |data: Vec<u8>| String::from_utf8_lossy(&data).into_owned();
        if self.is_error {
            return Some(Err(SseError::Server(self.data.map(text).unwrap_or_default())));
        }
        self.data.map(|data| Ok(SseItem { id: self.id, data: text(data) }))
    }
}

/// `field: value`, with one optional blank after the colon; a comment has an empty field.
fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|byte| *byte == b':') {
        Some(at) => {
            let value = &line[at + 1..];
            (&line[..at], value.strip_prefix(b" ").unwrap_or(value))
        }
        None => (line, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Event;
    use proptest::prelude::*;

    /// Feeds `bytes` in pieces and gives what came out, errors as their text.
    fn read(bytes: &[u8], pieces: &[usize], limit: usize) -> Vec<Result<SseItem, String>> {
        let mut parser = SseParser::new(limit);
        let mut items = Vec::new();
        let mut rest = bytes;
        let mut sizes = pieces.iter().copied().cycle();
        while !rest.is_empty() {
            let size = sizes.next().unwrap_or(rest.len()).clamp(1, rest.len());
            let (piece, after) = rest.split_at(size);
            rest = after;
            parser.push(piece);
            loop {
                match parser.next_item() {
                    Ok(Some(item)) => items.push(Ok(item)),
                    Ok(None) => break,
                    Err(error) => {
                        items.push(Err(error.to_string()));
                        return items;
                    }
                }
            }
        }
        items
    }

    fn item(data: &str) -> Result<SseItem, String> {
        Ok(SseItem { id: None, data: data.to_owned() })
    }

    #[test]
    fn reads_what_servers_write() {
        for (wire, want) in [
            ("data: {}\n\n", vec![item("{}")]),
            (":\n:\ndata: a\ndata: b\n\n:\n", vec![item("a\nb")]),
            ("data:x\r\n\r\n", vec![item("x")]),
            ("retry: 3\nfoo\n\n\n\ndata: \n\n", vec![item("")]),
            ("id: 5\ndata: x\n\n", vec![Ok(SseItem { id: Some("5".into()), data: "x".into() })]),
            (
                "data: a\n\nevent: error\ndata: boom\n\ndata: b\n\n",
                vec![item("a"), Err("Server error: boom".into())],
            ),
            ("data: cut off\n", vec![]),
        ] {
            assert_eq!(read(wire.as_bytes(), &[usize::MAX], 100), want, "{wire:?}");
        }
    }

    #[test]
    fn an_item_is_bounded() {
        let long = format!("data: {}\n\n", "x".repeat(200));
        let many = "data: 12345678\n".repeat(20);
        let endless = "x".repeat(200);
        for wire in [long, many, endless] {
            let got = read(wire.as_bytes(), &[7], 100);
            assert_eq!(got, vec![Err("event is larger than 100 bytes".to_owned())]);
        }
        // Many small items in one piece are no large item.
        let small = "data: 12345678\n\n".repeat(100);
        assert_eq!(read(small.as_bytes(), &[usize::MAX], 20).len(), 100);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            texts in proptest::collection::vec("[a-z:\n <é]{0,20}", 0..8),
            pieces in proptest::collection::vec(1_usize..9, 1..8),
        ) {
            let wire: Vec<u8> = texts.iter().flat_map(|text| Event::data(text).encode()).collect();
            let want: Vec<_> = texts.iter().map(|text| item(text)).collect();
            prop_assert_eq!(read(&wire, &pieces, 4096), want);
        }

        #[test]
        fn any_bytes_in_any_pieces_give_the_same_items(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b':'), Just(b'd'), any::<u8>()], 0..200),
            pieces in proptest::collection::vec(1_usize..9, 1..8),
        ) {
            prop_assert_eq!(read(&bytes, &pieces, 64), read(&bytes, &[1], 64));
        }
    }
}
