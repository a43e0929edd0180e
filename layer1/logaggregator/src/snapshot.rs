//! A snapshot: all lines of an aggregator for one that starts. Private between aggregators: a frame that
//! names the form, then one frame per line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, pin_mut, stream};
use kit_http::{Client, ClientError};
use kit_syslog::{FrameCodec, FrameError};
use tokio_util::codec::{Decoder as _, Encoder as _};

use crate::line::Line;
use crate::store::Store;

/// The media type.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.flynn.logaggregator-snapshot";

/// The first frame.
const FORM: &str = "flynn log snapshot 1";

/// A line may be a little longer than it came: times are written in full.
const LIMIT: usize = kit_syslog::MAX_FRAME + 1000;

/// How long the sender of a snapshot may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// How much of a snapshot is read. More than an aggregator keeps by default.
const MAX_SNAPSHOT: usize = 1 << 30;

/// The size of a piece of the body, about.
const PIECE: usize = 64 << 10;

/// Why a snapshot was not loaded, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("snapshot cannot be fetched")]
    Fetch(#[from] ClientError),
    #[error("snapshot is damaged")]
    Frame(#[from] FrameError),
    #[error("snapshot is of another form: {0:?}")]
    Form(String),
    #[error("snapshot is larger than {MAX_SNAPSHOT} bytes")]
    TooLarge,
}

fn codec() -> FrameCodec {
    FrameCodec::stream().with_limit(LIMIT)
}

/// The snapshot of these lines as a body.
pub(crate) fn body(lines: Vec<Arc<Line>>) -> impl Stream<Item = Result<Bytes, FrameError>> + Send {
    let mut first = BytesMut::new();
    let form = codec().encode(FORM, &mut first).map(|()| first.freeze());
    let rest = stream::unfold(VecDeque::from(lines), async |mut rest| {
        let mut out = BytesMut::new();
        while out.len() < PIECE
            && let Some(line) = rest.pop_front()
        {
            if let Err(error) = codec().encode(line.message.encode(), &mut out) {
                return Some((Err(error), VecDeque::new()));
            }
        }
        (!out.is_empty()).then(|| (Ok(out.freeze()), rest))
    });
    stream::iter([form]).chain(rest)
}

/// Fetches the snapshot of the aggregator at `url` and takes its lines; gives their number. What came
/// before an error stays.
pub(crate) async fn load(url: &str, store: &Store) -> Result<usize, SnapshotError> {
    let response = Client::new(url)?.send(kit_http::Request::get("/snapshot")).await?;
    read(response.into_stream(Some(SILENCE)), store).await
}

async fn read<E>(
    body: impl Stream<Item = Result<Bytes, E>>,
    store: &Store,
) -> Result<usize, SnapshotError>
where
    SnapshotError: From<E>,
{
    pin_mut!(body);
    let (mut buffer, mut total, mut taken, mut form) = (BytesMut::new(), 0, 0, None);
    while let Some(piece) = body.next().await {
        let piece = piece?;
        total += piece.len();
        if total > MAX_SNAPSHOT {
            return Err(SnapshotError::TooLarge);
        }
        buffer.extend_from_slice(&piece);
        while let Some(frame) = codec().decode(&mut buffer)? {
            if form.is_none() {
                form = Some(check_form(&frame)?);
                continue;
            }
            match Line::parse(&frame) {
                Ok(line) => {
                    store.insert(line);
                    taken += 1;
                }
                Err(error) => tracing::debug!(%error, "line of a snapshot dropped"),
            }
        }
    }
    Ok(taken)
}

fn check_form(frame: &[u8]) -> Result<(), SnapshotError> {
    if frame == FORM.as_bytes() {
        return Ok(());
    }
    let start = &frame[..frame.len().min(64)];
    Err(SnapshotError::Form(String::from_utf8_lossy(start).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Store {
        let store = Store::new(1 << 20);
        for (app, time, seq, text) in [
            ("a", "2026-01-02T03:04:05.000001Z", 1, &b"one"[..]),
            ("a", "2026-01-02T03:04:05.123456789+02:00", 2, b""),
            ("b", "2026-01-02T03:04:05Z", 3, b"\xff\n bytes"),
        ] {
            let head = format!("<11>1 {time} h {app} web.h-1 ID2 [flynn x=\"\\]\" seq=\"{seq}\"] ");
            store.insert(Line::parse(&[head.as_bytes(), text].concat()).unwrap());
        }
        store
    }

    #[tokio::test]
    async fn a_snapshot_reads_back_equal() {
        let (store, copy) = (filled(), Store::new(1 << 20));
        assert_eq!(read(body(store.all()), &copy).await.unwrap(), 3);
        assert_eq!(copy.all(), store.all());
        assert_eq!(copy.cursors(), store.cursors());
    }

    #[tokio::test]
    async fn what_is_no_snapshot_is_refused_and_a_cut_one_gives_what_it_has() {
        let store = Store::new(1 << 20);
        let whole: Vec<_> = body(filled().all()).collect().await;
        let whole: Vec<u8> = whole.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
        let of = |bytes: &[u8]| stream::iter([Ok::<_, FrameError>(Bytes::copy_from_slice(bytes))]);
        assert!(matches!(read(of(b"3 abc"), &store).await, Err(SnapshotError::Form(_))));
        assert!(matches!(read(of(b"<html>"), &store).await, Err(SnapshotError::Frame(_))));
        assert_eq!(read(of(&whole[..whole.len() - 1]), &store).await.unwrap(), 2);
    }
}
