//! Server-sent events, the sending side: framing, keep-alive, the error that ends a stream.
//! The reading side is [`crate::SseParser`] and [`crate::Client::events`].

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde::Serialize;
use tokio::time::{Instant, Sleep};

/// The `Content-Type` of an event stream.
pub const CONTENT_TYPE_SSE: &str = "text/event-stream; charset=utf-8";

/// How long a stream may be silent before a comment line shows that it lives.
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// One item of a stream, as it stands on the wire. Clones share its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    wire: Bytes,
    is_error: bool,
}

impl Event {
    /// An item with this text; each of its lines becomes a `data: ` line.
    pub fn data(text: impl AsRef<str>) -> Self {
        Self { wire: lines("", text.as_ref()), is_error: false }
    }

    /// An item with this value as compact JSON. A value that cannot be written becomes an error that
    /// ends the stream; types of ours always can.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        match crate::encode_json(value) {
            // JSON is UTF-8.
            Ok(bytes) => Self::data(String::from_utf8_lossy(&bytes)),
            Err(error) => Self::error(error.to_string()),
        }
    }

    /// The error that ends a stream: the client sees "Server error: text", nothing follows it.
    pub fn error(text: impl AsRef<str>) -> Self {
        Self { wire: lines("event: error\n", text.as_ref()), is_error: true }
    }

    /// The same item with an id line.
    #[must_use]
    pub fn with_id(self, id: impl AsRef<str>) -> Self {
        // An id with a line break would forge further lines.
        let id: String = id.as_ref().chars().filter(|c| !matches!(c, '\n' | '\r' | '\0')).collect();
        let mut wire = format!("id: {id}\n").into_bytes();
        wire.extend_from_slice(&self.wire);
        Self { wire: wire.into(), ..self }
    }

    /// The item as it stands on the wire.
    pub fn encode(&self) -> Bytes {
        self.wire.clone()
    }
}

fn lines(head: &str, text: &str) -> Bytes {
    let mut wire = String::with_capacity(head.len() + text.len() + 16);
    wire.push_str(head);
    for line in text.split('\n') {
        // Writing to a String cannot fail.
        let _ = writeln!(wire, "data: {}", line.trim_end_matches('\r').replace('\r', " "));
    }
    wire.push('\n');
    wire.into()
}

/// Whether a client asks for an event stream.
pub fn wants_sse(headers: &HeaderMap) -> bool {
    let mut accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.any(|value| value.contains("text/event-stream"))
}

/// An event stream as an answer: headers at once, a comment line after [`KEEP_ALIVE`] of silence, the
/// end after the first error.
pub fn response<S>(events: S) -> Response
where
    S: Stream<Item = Event> + Send + 'static,
{
    response_with(events, KEEP_ALIVE)
}

/// [`response`] with another keep-alive.
pub fn response_with<S>(events: S, keep_alive: Duration) -> Response
where
    S: Stream<Item = Event> + Send + 'static,
{
    let frames = Frames {
        events: Some(Box::pin(events)),
        keep_alive,
        spoke: Instant::now(),
        silence: Box::pin(tokio::time::sleep(keep_alive)),
    };
    let content_type = HeaderValue::from_static(CONTENT_TYPE_SSE);
    ([(CONTENT_TYPE, content_type)], Body::from_stream(frames)).into_response()
}

/// The bytes of a stream of events.
struct Frames<S> {
    /// None after the error that ends the stream.
    events: Option<Pin<Box<S>>>,
    keep_alive: Duration,
    /// When something was sent last.
    spoke: Instant,
    /// Runs out no later than the silence has been too long. Set again only then, not with every event.
    silence: Pin<Box<Sleep>>,
}

impl<S> Frames<S> {
    /// Ready once nothing was sent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.silence.as_mut().poll(cx));
            let due = self.spoke + self.keep_alive;
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.silence.as_mut().reset(due);
        }
    }
}

impl<S: Stream<Item = Event>> Stream for Frames<S> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(events) = &mut this.events else { return Poll::Ready(None) };
        let bytes = match events.as_mut().poll_next(cx) {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(event)) => {
                if event.is_error {
                    this.events = None;
                }
                event.wire
            }
            Poll::Pending => {
                ready!(this.poll_silence(cx));
                Bytes::from_static(b":\n")
            }
        };
        this.spoke = Instant::now();
        Poll::Ready(Some(Ok(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    #[test]
    fn items_are_framed_as_on_the_wire() {
        for (event, want) in [
            (Event::data("x").with_id("7"), "id: 7\ndata: x\n\n"),
            (Event::data("x").with_id("7\ndata: forged"), "id: 7data: forged\ndata: x\n\n"),
            (
                Event::json(&serde_json::json!({"a": "<b>"})),
                "data: {\"a\":\"\\u003cb\\u003e\"}\n\n",
            ),
            (Event::data("one\ntwo"), "data: one\ndata: two\n\n"),
            (Event::error("boom"), "event: error\ndata: boom\n\n"),
        ] {
            assert_eq!(event.encode(), want);
        }
    }

    #[tokio::test]
    async fn nothing_follows_an_error() {
        let events = [Event::data("a"), Event::error("boom"), Event::data("never")];
        let answer = response(stream::iter(events));
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/event-stream; charset=utf-8");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "data: a\n\nevent: error\ndata: boom\n\n");
    }

    #[tokio::test]
    async fn what_was_sent_puts_the_comment_off() {
        let (spoke, keep_alive) = (Instant::now(), Duration::from_secs(3600));
        let silence = Box::pin(tokio::time::sleep(Duration::ZERO));
        let events = Some(Box::pin(stream::pending::<Event>()));
        let mut frames = Frames { events, keep_alive, spoke, silence };
        // Set before something was sent, it runs out early.
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(futures_util::poll!(frames.next()).is_pending());
        assert_eq!(frames.silence.deadline(), spoke + keep_alive);
    }

    #[tokio::test]
    async fn silence_is_broken_by_a_comment() {
        let events = stream::iter([Event::data("a")]).chain(stream::pending());
        let mut body =
            response_with(events, Duration::from_millis(1)).into_body().into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap(), "data: a\n\n");
        assert_eq!(body.next().await.unwrap().unwrap(), ":\n");
        assert_eq!(body.next().await.unwrap().unwrap(), ":\n");
    }
}
