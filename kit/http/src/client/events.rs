//! A stream of server-sent events as the client sees it. It does not reconnect: what to ask for again is
//! known to the caller alone.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use super::response::Response;
use crate::sse_reader::{SseError, SseItem, SseParser};

/// The largest item that is read. The largest ones known, expanded formations, are far below.
const MAX_ITEM: usize = 16 << 20;

/// The items of an event stream. Ends after its first error, and at the stream's normal end.
pub struct EventStream {
    pieces: Option<Pieces>,
    parser: SseParser,
}

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, ClientError>> + Send>>;

impl EventStream {
    pub(super) fn new(response: Response, silence: Duration) -> Self {
        let pieces = Box::pin(response.into_stream(Some(silence)));
        Self { pieces: Some(pieces), parser: SseParser::new(MAX_ITEM) }
    }

    /// The next item, None at the end.
    pub async fn next_item(&mut self) -> Option<Result<SseItem, SseError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The next item's data as JSON, None at the end.
    pub async fn next_json<T: DeserializeOwned>(&mut self) -> Option<Result<T, SseError>> {
        let item = self.next_item().await?;
        Some(item.and_then(|item| serde_json::from_str(&item.data).map_err(SseError::Decode)))
    }
}

impl Stream for EventStream {
    type Item = Result<SseItem, SseError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let Some(pieces) = &mut this.pieces else { return Poll::Ready(None) };
            match this.parser.next_item() {
                Ok(Some(item)) => return Poll::Ready(Some(Ok(item))),
                Ok(None) => {}
                Err(error) => {
                    this.pieces = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match ready!(pieces.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) => this.parser.push(&bytes),
                Some(Err(error)) => {
                    this.pieces = None;
                    return Poll::Ready(Some(Err(SseError::Transport(Box::new(error)))));
                }
                None => this.pieces = None,
            }
        }
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("open", &self.pieces.is_some()).finish_non_exhaustive()
    }
}
