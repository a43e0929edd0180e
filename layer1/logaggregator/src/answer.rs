//! The bodies of log answers: lines in pieces of some size, and for followers at a steady pace.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::line::Line;

/// How long lines are gathered before they are sent to a follower.
const FLUSH: Duration = Duration::from_millis(50);

/// The size of a piece, about.
const PIECE: usize = 32 << 10;

/// Buffered lines as a body.
pub(crate) fn lines(lines: Vec<Arc<Line>>) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    stream::unfold(VecDeque::from(lines), async |mut rest| {
        let piece = piece(&mut rest)?;
        Some((Ok(piece), rest))
    })
}

/// Buffered lines, then those to come, flushed each 50 ms.
pub(crate) fn following(
    backlog: Vec<Arc<Line>>,
    live: mpsc::Receiver<Arc<Line>>,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    stream::unfold((VecDeque::from(backlog), live), async |(mut backlog, mut live)| {
        let bytes = match piece(&mut backlog) {
            Some(bytes) => bytes,
            None => gathered(&mut live).await?,
        };
        Some((Ok(bytes), (backlog, live)))
    })
}

fn piece(lines: &mut VecDeque<Arc<Line>>) -> Option<Bytes> {
    let mut out = Vec::new();
    while out.len() < PIECE
        && let Some(line) = lines.pop_front()
    {
        line.write(&mut out);
    }
    (!out.is_empty()).then(|| out.into())
}

/// The lines of the next 50 ms, beginning with the first that comes.
async fn gathered(live: &mut mpsc::Receiver<Arc<Line>>) -> Option<Bytes> {
    let mut out = Vec::new();
    live.recv().await?.write(&mut out);
    let flush = Instant::now() + FLUSH;
    while out.len() < PIECE {
        match timeout_at(flush, live.recv()).await {
            Ok(Some(line)) => line.write(&mut out),
            Ok(None) | Err(_) => break,
        }
    }
    Some(out.into())
}
