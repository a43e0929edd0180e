//! Removes contents that no name leads to: of replaced and deleted files, and of uploads that a crash
//! cut short.

use std::time::Duration;

use kit_pg::PgError;
use kit_tasks::Tasks;

use crate::catalogue;
use crate::contents::ContentsError;
use crate::server::Store;

const INTERVAL: Duration = Duration::from_secs(60);
/// How long a reader may still be reading a file that has lost its name.
const READERS: Duration = Duration::from_secs(600);
/// How long an upload may take before what it wrote counts as abandoned.
const UPLOADS: Duration = Duration::from_secs(24 * 3600);

/// Starts the periodic sweep.
pub(crate) fn start(store: Store, tasks: &Tasks) {
    tasks.spawn_until_stop("sweep", async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if let Err(error) = once(&store, READERS, UPLOADS).await {
                tracing::warn!(%error, "the sweep of unnamed files failed and is tried again");
            }
        }
    });
}

async fn once(store: &Store, readers: Duration, uploads: Duration) -> Result<(), ContentsError> {
    let client = store.pool.client().await?;
    loop {
        let files = catalogue::nameless(&client, readers.as_secs_f64()).await?;
        for file in &files {
            store.contents.remove(file.id, &file.backend).await?;
            catalogue::forget(&client, file.id).await?;
        }
        if files.is_empty() {
            break;
        }
    }
    let order = "DELETE FROM file_chunks AS chunk \
                 WHERE written_at < now() - make_interval(secs => $1) \
                 AND NOT EXISTS (SELECT 1 FROM files WHERE files.file_id = chunk.file_id)";
    client.execute(order, &[&uploads.as_secs_f64()]).await.map_err(PgError::from)?;
    store.contents.remove_strangers(&client, uploads).await
}
