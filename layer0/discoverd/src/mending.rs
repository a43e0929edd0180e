//! What becomes of a server whose log's disk failed, most likely because it is full. The log has ended
//! for good then, but services and names are still answered from memory. So the server stays until the
//! disk takes writes again, and ends only then: whoever runs it starts it anew on the same store.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kit_tasks::Tasks;

use crate::raft::Node;

/// The disk works again when so much can be written: what a start writes, many times over.
const ROOM: usize = 1 << 20;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Ends `server` when its log has failed and would not fail again.
pub(crate) fn start(serving: &Tasks, server: &Tasks, node: Node, directory: PathBuf) {
    let server = server.clone();
    serving.spawn_until_stop("mending", async move {
        let reason = node.failed().await;
        tracing::error!(%reason, "the log has failed: reads go on, writes wait for the disk");
        while let Err(error) = probe_off_the_runtime(&directory).await {
            tracing::debug!(%error, "the disk takes no writes yet");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        tracing::info!("the disk takes writes again: this server ends to be started anew");
        server.stop();
    });
}

/// A sick disk may take its time; names are answered meanwhile.
async fn probe_off_the_runtime(directory: &Path) -> io::Result<()> {
    let directory = directory.to_owned();
    let probed = tokio::task::spawn_blocking(move || probe(&directory)).await;
    probed.unwrap_or_else(|lost| Err(io::Error::other(lost)))
}

/// Writes and removes a file as a store would be written.
fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join("probe");
    let written = fs::File::create(&path).and_then(|mut file| {
        file.write_all(&vec![1; ROOM])?;
        file.sync_all()
    });
    fs::remove_file(&path)?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_takes_writes_is_told_and_nothing_stays_on_it() {
        let dir = tempfile::tempdir().unwrap();
        probe(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        probe(&dir.path().join("none")).unwrap_err();
    }
}
