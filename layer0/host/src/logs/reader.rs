//! One job's messages out of its app's files.

use std::io;
use std::path::Path;

use kit_ids::{AppId, JobId};

use super::record::Message;
use super::tail::{Start, Tail};
use super::writer::file_stem;

/// Reads one job's messages.
#[derive(Debug)]
pub(crate) struct LogReader {
    job: String,
    tail: Tail,
}

impl LogReader {
    pub(crate) fn open(
        dir: &Path,
        app: Option<&AppId>,
        job: &JobId,
        start: Start,
    ) -> io::Result<Self> {
        let tail = Tail::open(dir, &file_stem(app), start)?;
        Ok(Self { job: job.to_string(), tail })
    }

    /// The next messages of the job; none once everything there is was read. Ask again when more was
    /// written.
    pub(crate) fn next_batch(&mut self) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        let job = self.job.as_str();
        while messages.is_empty() {
            let mut take = |line: &[u8]| {
                messages.extend(Message::parse(line).filter(|message| message.job == job));
            };
            if !self.tail.read(&mut take)? {
                break;
            }
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::super::writer::files_of;
    use super::super::{Logs, Origin};
    use super::*;
    use chrono::{TimeZone as _, Utc};
    use host_api::frame::Stream;
    use kit_units::Bytes;

    fn bodies(reader: &mut LogReader) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let batch = reader.next_batch().unwrap();
            if batch.is_empty() {
                return bodies;
            }
            bodies.extend(
                batch.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()),
            );
        }
    }

    #[test]
    fn history_and_live_lines_join_across_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::open(dir.path().to_owned(), Bytes(2000), Bytes(1 << 20)).unwrap();
        let app: AppId = "0f0e0d0c-1111-4222-8333-abcdefabcdef".parse().unwrap();
        let origin = |job: &str| Origin {
            host: "host1".into(),
            app: Some(app.clone()),
            process_type: String::new(),
            job: job.parse().unwrap(),
        };
        let (ours, other) = (origin("host1-a"), origin("host1-b"));
        let mut written = 0;
        let mut write = |count: usize| {
            for _ in 0..count {
                written += 1;
                let at = Utc.timestamp_opt(1_000_000 + written, 0).unwrap();
                let body = format!("line {written}").into_bytes();
                logs.append(&ours, at, Stream::Stdout, (0, body)).unwrap();
                logs.append(&other, at, Stream::Stdout, (0, b"not ours".to_vec())).unwrap();
            }
        };
        write(3);
        let mut history =
            LogReader::open(dir.path(), Some(&app), &ours.job, Start::History).unwrap();
        let mut now = LogReader::open(dir.path(), Some(&app), &ours.job, Start::Now).unwrap();
        assert_eq!(bodies(&mut history), ["line 1", "line 2", "line 3"]);
        assert_eq!(bodies(&mut now), [""; 0]);
        // Small enough that a follower that reads after each step misses no file.
        let mut followed = Vec::new();
        for _ in 0..10 {
            write(4);
            let lines = bodies(&mut now);
            assert_eq!(bodies(&mut history), lines);
            followed.extend(lines);
        }
        assert_eq!(followed, (4..44).map(|number| format!("line {number}")).collect::<Vec<_>>());
        assert_eq!(files_of(dir.path(), app.as_str()).len(), 2, "one backup");
    }

    #[test]
    fn a_torn_message_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let logs = || Logs::open(dir.path().to_owned(), Bytes(1 << 20), Bytes(1 << 20)).unwrap();
        let origin = Origin {
            host: "host1".into(),
            app: None,
            process_type: "web".into(),
            job: "host1-a".parse().unwrap(),
        };
        logs().append(&origin, Utc::now(), Stream::Stdout, (0, b"one".to_vec())).unwrap();
        let path = dir.path().join("no-app.log");
        let mut bytes = std::fs::read(&path).unwrap();
        let half = bytes[..bytes.len() / 2].to_vec();
        bytes.extend(half);
        std::fs::write(&path, bytes).unwrap();
        logs().append(&origin, Utc::now(), Stream::Stdout, (0, b"two".to_vec())).unwrap();
        let mut reader = LogReader::open(dir.path(), None, &origin.job, Start::History).unwrap();
        assert_eq!(bodies(&mut reader), ["one", "two"]);
    }
}
