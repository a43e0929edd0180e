//! All apps' lines in the order they were written, each once: what a sink sends. Files are read one app
//! at a time, so lines are merged; a line written while they are read waits for the next round, because
//! an older one of another app might not have been seen.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::record::Position;
use super::tail::{Start, Tail};
use super::writer::Logs;

/// How far back into an app's past a feed goes: more than 10,000 usual lines.
const PAST: u64 = 32 << 20;
/// About how many bytes a batch has.
const BATCH: usize = 128 << 10;

/// Reads on from a position.
#[derive(Debug)]
pub(crate) struct Feed {
    logs: Arc<Logs>,
    after: Option<Position>,
    sources: BTreeMap<String, Source>,
}

#[derive(Debug)]
struct Source {
    tail: Tail,
    /// The newest line of the app when its files were last read to their end.
    read_to: Option<Position>,
    queue: VecDeque<(Position, Bytes)>,
}

/// Frames as they go over the wire, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) frames: BytesMut,
    /// Of the last one.
    pub(crate) position: Option<Position>,
}

impl Feed {
    /// The lines of the recent past, without those that are not behind `after`.
    pub(crate) fn new(logs: Arc<Logs>, after: Option<Position>) -> Self {
        // A receiver that is ahead of us saw times of a clock that was set back since.
        let newest = logs.newest();
        let after = after.map(|after| newest.map_or(after, |newest| after.min(newest)));
        Self { logs, after, sources: BTreeMap::new() }
    }

    /// The next lines; none when all that were written before the call were given.
    pub(crate) fn next_batch(&mut self) -> io::Result<Batch> {
        let (newest, heads) = self.logs.heads();
        let Some(newest) = newest else { return Ok(Batch::default()) };
        for (stem, head) in heads {
            self.refresh(&stem, head)?;
        }
        let mut batch = Batch::default();
        while batch.frames.len() < BATCH {
            let heads = self.sources.iter().filter_map(|(stem, source)| {
                source.queue.front().map(|(position, _)| (*position, stem.clone()))
            });
            let Some((position, stem)) = heads.min().filter(|(position, _)| *position <= newest)
            else {
                break;
            };
            let Some(source) = self.sources.get_mut(&stem) else { break };
            if let Some((_, frame)) = source.queue.pop_front() {
                batch.frames.put(frame);
                batch.position = Some(position);
            }
            if source.queue.is_empty() {
                source.fill(self.after)?;
            }
        }
        self.after = self.after.max(batch.position);
        Ok(batch)
    }

    /// Looks at an app's files if something was written since.
    fn refresh(&mut self, stem: &str, head: Option<Position>) -> io::Result<()> {
        let is_new = !self.sources.contains_key(stem);
        if is_new {
            let tail = Tail::open(self.logs.dir(), stem, Start::Recent(PAST))?;
            let source = Source { tail, read_to: None, queue: VecDeque::new() };
            self.sources.insert(stem.to_owned(), source);
        }
        let Some(source) = self.sources.get_mut(stem) else { return Ok(()) };
        if source.queue.is_empty() && (is_new || source.read_to < head) {
            source.fill(self.after)?;
            if source.queue.is_empty() {
                source.read_to = head;
            }
        }
        Ok(())
    }
}

impl Source {
    /// Reads until there is a line to give or the end is reached.
    fn fill(&mut self, after: Option<Position>) -> io::Result<()> {
        let queue = &mut self.queue;
        while queue.is_empty() {
            let mut take = |line: &[u8]| {
                let position = Position::parse(line);
                if let Some(position) = position.filter(|position| Some(*position) > after) {
                    queue.push_back((position, Bytes::copy_from_slice(line)));
                }
            };
            if !self.tail.read(&mut take)? {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;
    use host_api::frame::Stream;
    use kit_units::Bytes as Size;

    use super::super::Origin;
    use super::*;

    fn origin(app: char) -> Origin {
        let id: String = "00000000-0000-4000-8000-000000000000".replace('0', &app.to_string());
        let (host, process_type) = ("host1".to_owned(), "web".to_owned());
        let job = "host1-a".parse().unwrap();
        Origin { host, app: Some(id.parse().unwrap()), process_type, job }
    }

    fn write(logs: &Logs, app: char, body: &str) {
        let now = chrono::Utc.timestamp_opt(1_000_000, 0).unwrap();
        logs.append(&origin(app), now, Stream::Stdout, (0, body.as_bytes().to_vec())).unwrap();
    }

    fn bodies(feed: &mut Feed) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let batch = feed.next_batch().unwrap();
            if batch.frames.is_empty() {
                return bodies;
            }
            let text = String::from_utf8(batch.frames.to_vec()).unwrap();
            let of = |rest: &str| rest.split('z').next().unwrap().to_owned();
            bodies.extend(text.split("end=\"0\"] ").skip(1).map(of));
        }
    }

    #[test]
    fn lines_of_all_apps_come_once_and_in_the_order_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Arc::new(Logs::open(dir.path().into(), Size(3000), Size(1 << 20)).unwrap());
        let logs = open();
        let mut feed = Feed::new(logs.clone(), None);
        assert!(bodies(&mut feed).is_empty());
        let mut want = Vec::new();
        for number in 0..60 {
            let app = ['a', 'b', 'c'][number % 3];
            write(&logs, app, &format!("{number}z"));
            want.push(number.to_string());
            if number % 7 == 0 {
                let got = bodies(&mut feed);
                assert_eq!(got, want);
                want.clear();
            }
        }
        assert_eq!(bodies(&mut feed), want);
        // Another daemon, a receiver that has the first lines, and files that were rotated since.
        let logs = open();
        let after = logs.newest();
        write(&logs, 'b', "61z");
        write(&logs, 'a', "62z");
        assert_eq!(bodies(&mut Feed::new(logs.clone(), after)), ["61", "62"]);
        let ahead = after.map(|at| Position { time: at.time + chrono::TimeDelta::days(1), ..at });
        let mut ahead = Feed::new(logs.clone(), ahead);
        assert!(bodies(&mut ahead).is_empty());
        write(&logs, 'c', "63z");
        assert_eq!(bodies(&mut ahead), ["63"]);
    }
}
