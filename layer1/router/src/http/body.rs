//! Bodies without boxes: what goes to a backend, and what goes back. The body of a response carries
//! everything that must last as long as it does: the backend's lease, the connection to give back,
//! the client connection's mark of being busy.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::HeaderMap;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::connection::Busy;
use crate::pool::Sender;
use crate::service::Lease;
use crate::worker::{Worker, ticks};

/// The body of a request to a backend: the client's, or none.
#[derive(Debug)]
pub(crate) struct RequestBody(Option<(Incoming, Arc<Upload>)>);

impl RequestBody {
    /// No body.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// The client's body, if it has one.
    pub(crate) fn client(body: Incoming, worker: &Arc<Worker>) -> Self {
        if body.is_end_stream() {
            return Self::none();
        }
        let (last, worker) = (AtomicU64::new(worker.now()), worker.clone());
        Self(Some((body, Arc::new(Upload { last, worker }))))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// How the client's sending goes on, while a response is awaited.
    pub(crate) fn upload(&self) -> Option<Arc<Upload>> {
        self.0.as_ref().map(|(_, upload)| upload.clone())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((body, upload)) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        upload.last.store(upload.worker.now(), Ordering::Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}

/// When the client's body last went on.
#[derive(Debug)]
pub(crate) struct Upload {
    last: AtomicU64,
    worker: Arc<Worker>,
}

/// Waits for a response's head; the time begins anew while the request's body still goes on, however
/// long that takes.
pub(super) async fn in_time<T>(
    limit: Duration,
    upload: Option<&Upload>,
    answer: impl Future<Output = T>,
) -> Option<T> {
    let mut answer = pin!(answer);
    loop {
        if let Ok(answer) = tokio::time::timeout(limit, answer.as_mut()).await {
            return Some(answer);
        }
        let still_sending = upload.is_some_and(|upload| {
            let last = upload.last.load(Ordering::Relaxed);
            upload.worker.now().saturating_sub(last) <= ticks(limit)
        });
        if !still_sending {
            return None;
        }
    }
}

/// The body of a response.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    source: Source,
    /// Held until the last byte was handed over.
    _busy: Option<Busy>,
}

#[derive(Debug)]
enum Source {
    Text(Option<Bytes>),
    Backend(Forwarded),
}

impl ReplyBody {
    pub(crate) fn text(text: Bytes) -> Self {
        Self { source: Source::Text(Some(text).filter(|text| !text.is_empty())), _busy: None }
    }

    pub(crate) fn backend(forwarded: Forwarded) -> Self {
        Self { source: Source::Backend(forwarded), _busy: None }
    }

    /// The same body, keeping its client connection marked as busy.
    pub(crate) fn busy(self, busy: Busy) -> Self {
        Self { _busy: Some(busy), ..self }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().source {
            Source::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Source::Backend(forwarded) => forwarded.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Text(text) => text.is_none(),
            Source::Backend(forwarded) => forwarded.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Source::Backend(forwarded) => forwarded.body.size_hint(),
        }
    }
}

/// A backend's response on its way to the client. Dropped early, it closes the backend's connection,
/// which is how the backend learns that the client has gone.
#[derive(Debug)]
pub(crate) struct Forwarded {
    body: Incoming,
    ended: bool,
    /// Given back when the body has ended; None where it serves one request only.
    sender: Option<Sender>,
    lease: Lease,
    worker: Arc<Worker>,
}

impl Forwarded {
    pub(crate) fn new(
        worker: &Arc<Worker>,
        lease: Lease,
        sender: Option<Sender>,
        body: Incoming,
    ) -> Self {
        Self { body, ended: false, sender, lease, worker: worker.clone() }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended |= frame.is_none();
        Poll::Ready(frame.map(|frame| frame.map(allowed_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        if self.is_end_stream()
            && let Some(sender) = self.sender.take()
        {
            self.lease.backend.pool.put(self.worker.index, sender, self.worker.now());
        }
    }
}

/// Trailers must not smuggle in what frames a message.
fn allowed_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            remove_framing(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(data) => data,
    }
}

fn remove_framing(trailers: &mut HeaderMap) {
    use ::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
    for name in [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING] {
        trailers.remove(name);
    }
}
