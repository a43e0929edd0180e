//! Talking to supervisors from the event loop, and starting them behind a seam that tests replace.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use host_container::Cgroups;
use host_container::protocol::{
    ClientFrame, Decoder, JobSpec, Notice, Order, Request, SupervisorFrame,
};
use host_network::Partition;
use kit_ids::JobId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// How long a supervisor may take to answer an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);
const CHUNK: usize = 64 * 1024;
/// How long killed processes may take to leave their group.
const SWEEP_PATIENCE: Duration = Duration::from_secs(5);

/// Starts supervisors.
pub trait Launcher: Send + Sync + std::fmt::Debug {
    /// Starts the supervisor of a job and gives its pid. It outlives the daemon. The pid is this
    /// process's child and is reaped by the caller.
    fn launch(&self, spec: &JobSpec) -> io::Result<Option<std::process::Child>>;

    /// Ends what an earlier daemon's jobs left under `prefix`: processes whose supervisor is gone, and
    /// their groups. Those of `live` jobs stay. Gives the number of jobs.
    fn sweep(&self, _prefix: &str, _live: &BTreeSet<JobId>) -> io::Result<usize> {
        Ok(0)
    }
}

/// Executes `flynn-init`.
#[derive(Clone, Debug)]
pub struct ExecLauncher {
    /// The program.
    pub init_binary: std::path::PathBuf,
}

impl Launcher for ExecLauncher {
    fn launch(&self, spec: &JobSpec) -> io::Result<Option<std::process::Child>> {
        host_container::launch(&self.init_binary, spec).map(Some)
    }

    fn sweep(&self, prefix: &str, live: &BTreeSet<JobId>) -> io::Result<usize> {
        let trees = Cgroups::detect()?;
        let mut swept = 0;
        for partition in Partition::ALL {
            for name in trees.job_names(prefix, partition.as_str())? {
                if live.iter().any(|job| job.as_str() == name) {
                    continue;
                }
                let group = trees.job(prefix, partition.as_str(), &name)?;
                group.kill()?;
                group.remove(SWEEP_PATIENCE)?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// A connection to a supervisor, both directions.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) reader: FrameReader,
    pub(crate) writer: FrameWriter,
}

#[derive(Debug)]
pub(crate) struct FrameReader {
    reader: OwnedReadHalf,
    decoder: Decoder,
}

#[derive(Debug)]
pub(crate) struct FrameWriter {
    writer: OwnedWriteHalf,
    next_id: u32,
}

impl Supervisor {
    /// Connects to the supervisor of a job directory.
    pub(crate) fn connect(job_dir: &Path) -> io::Result<Self> {
        let stream = host_container::client::connect(job_dir)?;
        stream.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(stream)?.into_split();
        let reader = FrameReader { reader, decoder: Decoder::default() };
        Ok(Self { reader, writer: FrameWriter { writer, next_id: 1 } })
    }
}

impl FrameReader {
    /// The next frame; none when the supervisor has ended. Safe to drop and call again.
    pub(crate) async fn next_frame(&mut self) -> io::Result<Option<SupervisorFrame>> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
                return Ok(Some(frame));
            }
            let mut chunk = [0; CHUNK];
            match self.reader.read(&mut chunk).await {
                Ok(0) => return Ok(None),
                Ok(count) => self.decoder.extend(&chunk[..count]),
                // The supervisor ended with something of ours unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

impl FrameWriter {
    /// Sends an order; its reply carries the id.
    pub(crate) async fn order(&mut self, order: Order) -> io::Result<u32> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.send(&ClientFrame::Request(Request { id, order })).await?;
        Ok(id)
    }

    /// Sends any frame.
    pub(crate) async fn send(&mut self, frame: &ClientFrame) -> io::Result<()> {
        self.writer.write_all(&frame.encode()).await
    }
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("the job's supervisor cannot be reached")]
    Unreachable(#[from] io::Error),
    #[error("the job's supervisor did not answer in time")]
    Timeout,
    #[error("{0}")]
    Refused(String),
}

/// Sends one order over a connection of its own and waits for the answer.
pub(crate) async fn order(job_dir: &Path, order: Order) -> Result<(), OrderError> {
    let whole = async {
        let mut supervisor = Supervisor::connect(job_dir)?;
        let wanted = supervisor.writer.order(order).await?;
        while let Some(frame) = supervisor.reader.next_frame().await? {
            match frame {
                SupervisorFrame::Notice(Notice::Reply { id, error }) if id == wanted => {
                    return error.map_or(Ok(()), |error| Err(OrderError::Refused(error)));
                }
                SupervisorFrame::Notice(_) | SupervisorFrame::Output { .. } => {}
            }
        }
        Err(OrderError::Unreachable(io::ErrorKind::UnexpectedEof.into()))
    };
    tokio::time::timeout(ORDER_TIMEOUT, whole).await.unwrap_or(Err(OrderError::Timeout))
}
