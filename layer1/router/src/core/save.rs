//! Savers: write the newest state to disk whenever it changed, one write at a time; and the page for
//! status 503, fetched once and kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kit_backoff::Backoff;
use kit_tasks::Tasks;
use tokio::sync::watch;

use crate::disk::Disk;
use crate::worker::Shared;

/// Before a failed write is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// The longest page that is kept.
const MAX_PAGE: usize = 1_000_000;

/// A page longer than this is no page, and not even cut.
const MAX_FETCHED: usize = 16 << 20;

/// Saves `state` at each change, a last time when the router stops.
pub(crate) async fn save<T: Send + Sync + 'static>(
    disk: Disk,
    what: &'static str,
    mut state: watch::Receiver<Arc<T>>,
    write: fn(&Disk, &T) -> std::io::Result<()>,
    tasks: Tasks,
) {
    loop {
        let stopping = tokio::select! {
            changed = state.changed() => changed.is_err(),
            () = tasks.stopping() => true,
        };
        if stopping && !state.has_changed().unwrap_or(false) {
            return;
        }
        let newest = state.borrow_and_update().clone();
        let disk = disk.clone();
        let written = tokio::task::spawn_blocking(move || write(&disk, &newest)).await;
        let Err(error) = written.map_err(std::io::Error::other).and_then(|written| written) else {
            continue;
        };
        tracing::error!(what, %error, "cannot be saved; a restart would begin with an older state");
        if stopping {
            return;
        }
        state.mark_changed();
        tokio::select! {
            () = tokio::time::sleep(AFTER_FAILURE) => {}
            () = tasks.stopping() => {}
        }
    }
}

/// Fetches the page for status 503 until it is there once.
pub(crate) async fn save_page(url: String, disk: Disk, shared: Arc<Shared>) {
    let mut pause = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), rand::random());
    loop {
        match fetch(&url).await {
            Ok(mut page) => {
                page.truncate(MAX_PAGE);
                shared.pages.set_unavailable(page.clone());
                let saved = tokio::task::spawn_blocking(move || disk.save_page(&page)).await;
                if let Err(error) = saved.map_err(std::io::Error::other).and_then(|saved| saved) {
                    tracing::warn!(%error, "error page cannot be saved");
                }
                return;
            }
            Err(error) => tracing::warn!(%url, %error, "error page cannot be fetched"),
        }
        tokio::time::sleep(pause.next_delay()).await;
    }
}

async fn fetch(url: &str) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let uri: ::http::Uri = url.parse()?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("the URL needs a scheme and a host".into());
    };
    let base = format!("{scheme}://{authority}");
    let mut client = kit_http::Client::builder(&base).max_body(MAX_FETCHED);
    if scheme == "https" {
        let file = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
        client = client.tls(kit_tls::client_config(kit_tls::system_roots(file.as_deref())?));
    }
    let client = client.build()?;
    let response = client.send(kit_http::Request::get(&path)).await?;
    Ok(response.bytes().await?)
}
