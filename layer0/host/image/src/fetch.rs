//! Getting a layer that is not there: from its URL, then from every peer. Each key is fetched once at a
//! time; a broken download goes on where it stopped, at the next source; only what verifies is kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use kit_http::{Client, ClientError, Request, Resolve};
use tokio::io::AsyncWriteExt as _;

use crate::store::io_error;
use crate::{Layer, LayerKey, LayerStore, StoreError};

/// The longest silence of a source before the next one is tried.
const SILENCE: Duration = Duration::from_secs(30);
/// How often all sources are tried.
const ROUNDS: usize = 3;

/// Fetches layers into a store. Cheap to clone; clones share the downloads under way.
#[derive(Clone, Debug)]
pub struct Fetcher {
    store: LayerStore,
    resolver: Option<Arc<dyn Resolve>>,
    under_way: Arc<Mutex<BTreeMap<LayerKey, Weak<tokio::sync::Mutex<()>>>>>,
}

/// Why a layer could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The layer or the store is not in order.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No source has it.
    #[error("layer {layer} is on no source: tried {tried}; the last one said: {last}")]
    NoSource {
        /// Its id.
        layer: String,
        /// The sources.
        tried: String,
        /// What the last one said.
        last: String,
    },
}

#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error(transparent)]
    Http(#[from] ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the source sends more than {0} bytes")]
    TooMuch(u64),
    #[error("a layer's URL must begin with http://, https:// or file://")]
    Scheme,
}

impl Fetcher {
    /// A fetcher. The resolver knows names below `.discoverd`.
    pub fn new(store: LayerStore, resolver: Option<Arc<dyn Resolve>>) -> Self {
        Self { store, resolver, under_way: Arc::default() }
    }

    /// Makes sure that the layer is in the store. `peers` are base URLs of other hosts.
    pub async fn ensure(&self, layer: &Layer, peers: &[String]) -> Result<LayerKey, FetchError> {
        let key = layer.key().map_err(StoreError::from)?;
        let turn = self.turn(&key);
        let _alone = turn.lock().await;
        if self.store.has(&key) {
            self.store.touch(&key);
            return Ok(key);
        }
        let sources = sources(layer, &key, peers);
        let mut last = "there is no source".to_owned();
        for _ in 0..ROUNDS {
            for source in &sources {
                match self.try_source(source, layer, &key).await {
                    Ok(()) => return Ok(key),
                    Err(error) => {
                        tracing::debug!(layer = %key, %source, %error, "source does not have the layer");
                        last = chain(&error);
                    }
                }
            }
        }
        Err(FetchError::NoSource { layer: layer.id.clone(), tried: sources.join(", "), last })
    }

    /// The lock of a key; forgotten when nobody holds it.
    fn turn(&self, key: &LayerKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = under_way.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        under_way.insert(key.clone(), Arc::downgrade(&turn));
        turn
    }

    async fn try_source(
        &self,
        url: &str,
        layer: &Layer,
        key: &LayerKey,
    ) -> Result<(), SourceError> {
        let part = self.store.part(key);
        if let Some(path) = url.strip_prefix("file://") {
            let copied = tokio::fs::copy(path, &part).await;
            copied.map_err(io_error("copy", Path::new(path)))?;
        } else if url.starts_with("http://") || url.starts_with("https://") {
            self.download(url, layer.size, &part).await?;
        } else {
            return Err(SourceError::Scheme);
        }
        let (store, layer) = (self.store.clone(), layer.clone());
        let taken = tokio::task::spawn_blocking(move || store.take(&part, &layer)).await;
        taken
            .map_err(|error| io_error("verify", Path::new(url))(std::io::Error::other(error)))??;
        Ok(())
    }

    /// Adds to the part what is missing of it.
    async fn download(&self, url: &str, size: u64, part: &Path) -> Result<(), SourceError> {
        let mut client = Client::builder(url);
        if let Some(resolver) = &self.resolver {
            client = client.resolver(resolver.clone());
        }
        let have = tokio::fs::metadata(part).await.map_or(0, |about| about.len());
        let have = if have < size { have } else { 0 };
        let mut request = Request::get(url);
        if have > 0 {
            request = request.header(http::header::RANGE, &format!("bytes={have}-"))?;
        }
        let response = client.build()?.send(request).await?;
        let goes_on = response.status() == http::StatusCode::PARTIAL_CONTENT;
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).write(true).truncate(!goes_on).append(goes_on);
        let mut file = options.open(part).await.map_err(io_error("open", part))?;
        let mut written = if goes_on { have } else { 0 };
        let mut pieces = Box::pin(response.into_stream(Some(SILENCE)));
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            written += piece.len() as u64;
            if written > size {
                drop(tokio::fs::remove_file(part).await);
                return Err(SourceError::TooMuch(size));
            }
            file.write_all(&piece).await.map_err(io_error("write", part))?;
        }
        file.flush().await.map_err(io_error("write", part))?;
        Ok(())
    }
}

/// The layer's own URL first, then its peers.
fn sources(layer: &Layer, key: &LayerKey, peers: &[String]) -> Vec<String> {
    let own = Some(layer.url.clone()).filter(|url| !url.is_empty());
    let peers =
        peers.iter().map(|peer| format!("{}/host/layers/{key}", peer.trim_end_matches('/')));
    own.into_iter().chain(peers).collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
