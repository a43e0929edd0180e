//! The reading side: one job's messages out of its app's files, oldest first, then whatever is added,
//! across rotations. Its calls block on the page cache for at most one batch.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kit_ids::{AppId, JobId};

use super::record::{Message, Parsed, parse};
use super::writer::{file_stem, files_of};

/// Bytes read at one time.
const BATCH: usize = 256 * 1024;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the oldest message.
    History,
    /// With what is written from now on.
    Now,
}

/// Reads one job's messages.
#[derive(Debug)]
pub(crate) struct LogReader {
    dir: PathBuf,
    stem: String,
    job: String,
    /// Files still to be read, oldest first.
    queue: VecDeque<PathBuf>,
    current: Option<File>,
    buffer: Vec<u8>,
}

impl LogReader {
    pub(crate) fn open(
        dir: &Path,
        app: Option<&AppId>,
        job: &JobId,
        start: Start,
    ) -> io::Result<Self> {
        let stem = file_stem(app);
        let mut queue: VecDeque<_> = files_of(dir, &stem).into();
        let mut current = None;
        if start == Start::Now {
            if let Some(path) = queue.pop_back() {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::End(0))?;
                current = Some(file);
            }
            queue.clear();
        }
        let (dir, job) = (dir.to_owned(), job.to_string());
        Ok(Self { dir, stem, job, queue, current, buffer: Vec::new() })
    }

    /// The next messages of the job; none once everything there is was read. Ask again when more was
    /// written.
    pub(crate) fn next_batch(&mut self) -> io::Result<Vec<Message>> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(Vec::new());
            }
            let read = self.fill()?;
            let messages = self.take_messages();
            if !messages.is_empty() {
                return Ok(messages);
            }
            if read == 0 && !self.leave_if_rotated()? {
                return Ok(Vec::new());
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let Some(file) = &mut self.current else { return Ok(0) };
        let before = self.buffer.len();
        file.take(BATCH as u64).read_to_end(&mut self.buffer)?;
        Ok(self.buffer.len() - before)
    }

    fn take_messages(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut at = 0;
        while at < self.buffer.len() {
            match parse(&self.buffer[at..]) {
                Parsed::Frame(length, message) => {
                    at += length;
                    messages.extend(message.filter(|message| message.job == self.job));
                }
                Parsed::Garbage(length) => at += length,
                Parsed::Incomplete => break,
            }
        }
        self.buffer.drain(..at);
        messages
    }

    /// At the end of a file: whether there is a next one.
    fn leave_if_rotated(&mut self) -> io::Result<bool> {
        let Some(file) = &self.current else { return self.open_next() };
        if self.queue.is_empty() {
            let (device, inode) = identity(&file.metadata()?);
            let newest = self.dir.join(format!("{}.log", self.stem));
            let newest_is = std::fs::metadata(&newest).map(|about| identity(&about));
            match newest_is {
                Ok(newest) if newest != (device, inode) => {}
                Ok(_) | Err(_) => return Ok(false),
            }
            // Between the last read and now the file may have got its last messages.
            if self.fill()? > 0 {
                return Ok(true);
            }
            self.queue.push_back(newest);
        }
        self.current = None;
        self.buffer.clear();
        self.open_next()
    }

    fn open_next(&mut self) -> io::Result<bool> {
        if self.queue.is_empty() && self.current.is_none() {
            self.queue = files_of(&self.dir, &self.stem).into();
        }
        while let Some(path) = self.queue.pop_front() {
            match File::open(&path) {
                Ok(file) => {
                    self.current = Some(file);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

fn identity(about: &std::fs::Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

#[cfg(test)]
mod tests {
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
