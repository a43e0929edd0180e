//! One job's output on its way into the log.

use chrono::{DateTime, Utc};
use host_api::frame::Stream;

use crate::host::Host;
use crate::logs::{LogReader, Origin, Splitter, Start};

/// The unfinished lines of a job's three streams.
#[derive(Debug)]
pub(super) struct Pump {
    origin: Origin,
    splitters: [Splitter; 3],
    offsets: [u64; 3],
    /// Lines since the last one that found room.
    lost: u64,
}

impl Pump {
    /// Goes on behind the last line of the job that is in the log.
    pub(super) fn resume(host: &Host, origin: Origin) -> Self {
        let offsets = logged(host, &origin).unwrap_or_else(|error| {
            tracing::warn!(job = %origin.job, %error, "log not read: output may be in it twice");
            [0; 3]
        });
        Self { splitters: offsets.map(Splitter::starting_at), offsets, origin, lost: 0 }
    }

    /// Where to read stdout, stderr and the init log from.
    pub(super) fn offsets(&self) -> [u64; 3] {
        self.offsets
    }

    /// Bytes of a stream that begin at `offset`.
    pub(super) fn push(&mut self, host: &Host, stream: Stream, offset: u64, bytes: &[u8]) {
        for line in self.splitters[index(stream)].push(offset, bytes) {
            self.write(host, stream, line.end, line.body);
        }
    }

    /// A line of the host's own in the job's init log; it has no place in the stream.
    pub(super) fn note(&mut self, host: &Host, text: &str) {
        self.write(host, Stream::Init, 0, text.replace('\n', " ").into_bytes());
    }

    /// The streams have ended.
    pub(super) fn finish(&mut self, host: &Host) {
        for stream in [Stream::Stdout, Stream::Stderr, Stream::Init] {
            if let Some(line) = self.splitters[index(stream)].finish() {
                self.write(host, stream, line.end, line.body);
            }
        }
    }

    /// A line that finds no room, on a full disk say, is lost; how many were stands in the log then, and
    /// in the host's own only that it began: that log may be on the same disk.
    fn write(&mut self, host: &Host, stream: Stream, end: u64, body: Vec<u8>) {
        let now = DateTime::<Utc>::from(std::time::UNIX_EPOCH + host.clock.wall().since_epoch());
        let append = |stream, line| host.logs.append(&self.origin, now, stream, line);
        if self.lost > 0 {
            let text = format!("{} lines found no room in the log and are lost", self.lost);
            if append(Stream::Init, (0, text.into_bytes())).is_ok() {
                tracing::info!(job = %self.origin.job, lost = self.lost, "lines are logged again");
                self.lost = 0;
            }
        }
        if let Err(error) = append(stream, (end, body)) {
            if self.lost == 0 {
                tracing::error!(job = %self.origin.job, %error, "lines are not logged");
            }
            self.lost += 1;
        }
    }
}

fn index(stream: Stream) -> usize {
    usize::from(stream.number()) - 1
}

/// How far each stream of the job is in the log.
fn logged(host: &Host, origin: &Origin) -> std::io::Result<[u64; 3]> {
    let mut offsets = [0; 3];
    let mut reader =
        LogReader::open(host.logs.dir(), origin.app.as_ref(), &origin.job, Start::History)?;
    loop {
        let batch = reader.next_batch()?;
        if batch.is_empty() {
            return Ok(offsets);
        }
        for message in batch {
            let offset: &mut u64 = &mut offsets[index(message.stream)];
            *offset = (*offset).max(message.end);
        }
    }
}
