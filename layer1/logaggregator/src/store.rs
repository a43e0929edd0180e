//! All apps' lines, how far each host got, and who follows. One lock, held for moments only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kit_syslog::{Timestamp, rfc3339};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::buffer::{Buffer, CAPACITY};
use crate::filter::{Filter, Query};
use crate::line::Line;

/// Lines that wait for one follower. When it reads too slowly, it loses lines: others must not wait.
const FOLLOWER_QUEUE: usize = 1000;

/// Hosts whose cursors are kept. Names come from the network, so their number is bounded.
const MAX_HOSTS: usize = 10_000;

/// The lines of all apps. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    channels: BTreeMap<String, Channel>,
    cursors: BTreeMap<String, Cursor>,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Channel {
    buffer: Buffer,
    followers: Vec<Follower>,
}

#[derive(Debug)]
struct Follower {
    filter: Filter,
    queue: mpsc::Sender<Arc<Line>>,
}

/// The newest line of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cursor {
    time: Timestamp,
    seq: u64,
}

/// A cursor as it stands in the answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct HostCursor {
    time: String,
    seq: u64,
}

impl Store {
    pub(crate) fn new(max_bytes: usize) -> Self {
        let (channels, cursors) = (BTreeMap::new(), BTreeMap::new());
        Self { state: Arc::new(Mutex::new(State { channels, cursors, bytes: 0, max_bytes })) }
    }

    /// Takes a line that a host sent, or a snapshot had.
    pub(crate) fn insert(&self, line: Line) {
        self.lock().insert(&Arc::new(line));
    }

    /// The buffered lines a query wants, oldest first.
    pub(crate) fn read(&self, app: &str, query: &Query) -> Vec<Arc<Line>> {
        let state = self.lock();
        let Some(channel) = state.channels.get(app) else { return Vec::new() };
        channel.newest(&query.filter, query.lines.filter(|lines| *lines > 0).unwrap_or(CAPACITY))
    }

    /// The buffered lines a following query wants, and the queue of those to come; none is lost or twice
    /// between the two.
    pub(crate) fn follow(
        &self,
        app: &str,
        query: &Query,
    ) -> (Vec<Arc<Line>>, mpsc::Receiver<Arc<Line>>) {
        let (queue, lines) = mpsc::channel(FOLLOWER_QUEUE);
        let mut state = self.lock();
        state.sweep();
        let channel = state.channels.entry(app.to_owned()).or_insert_with(Channel::new);
        channel.followers.push(Follower { filter: query.filter.clone(), queue });
        (channel.newest(&query.filter, query.lines.unwrap_or(0)), lines)
    }

    /// Every host's newest line.
    pub(crate) fn cursors(&self) -> BTreeMap<String, HostCursor> {
        let state = self.lock();
        let shown = |cursor: &Cursor| HostCursor { time: rfc3339(&cursor.time), seq: cursor.seq };
        state.cursors.iter().map(|(host, cursor)| (host.clone(), shown(cursor))).collect()
    }

    /// All buffered lines.
    pub(crate) fn all(&self) -> Vec<Arc<Line>> {
        let state = self.lock();
        state.channels.values().flat_map(|channel| channel.buffer.iter().cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, line: &Arc<Line>) {
        self.raise_cursor(line);
        let app = line.message.app_name.as_str();
        let channel = match self.channels.get_mut(app) {
            Some(channel) => channel,
            None => self.channels.entry(app.to_owned()).or_insert_with(Channel::new),
        };
        let before = channel.buffer.bytes();
        if channel.buffer.insert(line.clone()) {
            self.bytes = self.bytes - before + channel.buffer.bytes();
            channel.tell_followers(line);
            self.shrink();
        }
    }

    /// A cursor never goes back; duplicates raise it too.
    fn raise_cursor(&mut self, line: &Line) {
        let cursor = Cursor { time: *line.time(), seq: line.seq };
        if let Some(known) = self.cursors.get_mut(&line.message.hostname) {
            *known = cursor.max(*known);
        } else if self.cursors.len() < MAX_HOSTS {
            self.cursors.insert(line.message.hostname.clone(), cursor);
        } else {
            tracing::debug!(host = %line.message.hostname, "too many hosts to keep a cursor");
        }
    }

    /// Drops the oldest lines of the largest app until all fit.
    fn shrink(&mut self) {
        while self.bytes > self.max_bytes {
            let largest = self.channels.values_mut().max_by_key(|channel| channel.buffer.bytes());
            let Some(channel) = largest.filter(|channel| !channel.buffer.is_empty()) else {
                return;
            };
            let before = channel.buffer.bytes();
            channel.buffer.drop_oldest();
            self.bytes = self.bytes - before + channel.buffer.bytes();
        }
    }

    /// Forgets followers that left, and apps without lines and followers.
    fn sweep(&mut self) {
        self.channels.retain(|_, channel| {
            channel.followers.retain(|follower| !follower.queue.is_closed());
            !channel.buffer.is_empty() || !channel.followers.is_empty()
        });
    }
}

impl Channel {
    fn new() -> Self {
        Self { buffer: Buffer::new(CAPACITY), followers: Vec::new() }
    }

    /// The newest `count` lines that match, oldest first.
    fn newest(&self, filter: &Filter, count: usize) -> Vec<Arc<Line>> {
        let matching = self.buffer.iter().rev().filter(|line| filter.matches(line));
        let mut newest: Vec<_> = matching.take(count).cloned().collect();
        newest.reverse();
        newest
    }

    fn tell_followers(&mut self, line: &Arc<Line>) {
        self.followers.retain(|follower| {
            if !follower.filter.matches(line) {
                return true;
            }
            match follower.queue.try_send(line.clone()) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(app: &str, host: &str, second: u32, seq: u64, text: &str) -> Line {
        let text = format!(
            "<190>1 2026-01-02T03:{:02}:{:02}Z {host} {app} web.{host}-1 ID1 [flynn seq=\"{seq}\"] {text}",
            second / 60,
            second % 60
        );
        Line::parse(text.as_bytes()).unwrap()
    }

    fn seqs(lines: &[Arc<Line>]) -> Vec<u64> {
        lines.iter().map(|line| line.seq).collect()
    }

    fn query(lines: Option<usize>) -> Query {
        Query { lines, ..Query::default() }
    }

    #[test]
    fn apps_do_not_see_each_other() {
        let store = Store::new(1 << 20);
        store.insert(line("a", "h", 1, 1, ""));
        store.insert(line("b", "h", 2, 2, ""));
        assert_eq!(seqs(&store.read("a", &query(None))), [1]);
        assert_eq!(seqs(&store.read("b", &query(None))), [2]);
        assert!(store.read("c", &query(None)).is_empty());
        assert_eq!(store.all().len(), 2);
    }

    #[test]
    fn cursors_only_rise() {
        let store = Store::new(1 << 20);
        for (second, seq) in [(5, 7), (3, 9), (5, 6), (5, 8), (5, 8)] {
            store.insert(line("a", "h", second, seq, ""));
        }
        let cursor = HostCursor { time: "2026-01-02T03:00:05Z".to_owned(), seq: 8 };
        assert_eq!(store.cursors(), BTreeMap::from([("h".to_owned(), cursor)]));
    }

    #[test]
    fn a_follower_gets_lines_as_they_come_and_no_duplicates() {
        let store = Store::new(1 << 20);
        for second in 1..=3 {
            store.insert(line("a", "h", second, u64::from(second), ""));
        }
        let (backlog, mut live) = store.follow("a", &query(Some(2)));
        assert_eq!(seqs(&backlog), [2, 3]);
        let (none, _gone) = store.follow("a", &query(None));
        assert!(none.is_empty());
        for (second, seq) in [(9, 9), (0, 0), (3, 3), (4, 4)] {
            store.insert(line("a", "h", second, seq, ""));
        }
        let mut seen = Vec::new();
        while let Ok(line) = live.try_recv() {
            seen.push(line.seq);
        }
        assert_eq!(seen, [9, 0, 4]);
    }

    #[test]
    fn a_slow_follower_loses_lines_and_holds_nobody_up() {
        let store = Store::new(16 << 20);
        let (_, mut slow) = store.follow("a", &query(None));
        for second in 0..1500 {
            store.insert(line("a", "h", second, u64::from(second), ""));
        }
        let mut seen = 0;
        while slow.try_recv().is_ok() {
            seen += 1;
        }
        assert_eq!(seen, FOLLOWER_QUEUE);
        assert_eq!(store.read("a", &query(None)).len(), 1500);
    }

    #[test]
    fn memory_is_taken_from_the_largest_app() {
        let size = line("loud", "h", 1, 1, &"x".repeat(1000)).size();
        let store = Store::new(size * 10);
        store.insert(line("quiet", "h", 0, 0, "kept"));
        for second in 1..100 {
            store.insert(line("loud", "h", second, u64::from(second), &"x".repeat(1000)));
        }
        assert_eq!(seqs(&store.read("quiet", &query(None))), [0]);
        let loud = seqs(&store.read("loud", &query(None)));
        assert_eq!(loud.last(), Some(&99), "the newest stay");
        assert_eq!(loud.len(), 9);
    }

    #[test]
    fn who_left_is_forgotten() {
        let store = Store::new(1 << 20);
        for app in 0..100 {
            drop(store.follow(&app.to_string(), &query(None)));
        }
        let (_, _live) = store.follow("a", &query(None));
        assert_eq!(store.lock().channels.len(), 1);
    }
}
