//! The blob store and the controller as a build uses them, with the build's token.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use http::{Method, header};
use kit_artifact::Artifact;
use kit_backoff::Backoff;
use kit_http::{Client, ClientError, Request};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use crate::config::Config;

/// How often an upload is tried.
const ATTEMPTS: u32 = 3;
/// How long one may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a download may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// How long the controller is asked again while it cannot be reached.
const RETRY_FOR: Duration = Duration::from_secs(60);
/// What a token begins with; anything else is a key.
const TOKEN: &str = "build1.";

/// Why something cannot be stored or fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Http(#[from] ClientError),
    #[error("cannot read or write {}", .path.display())]
    File { path: std::path::PathBuf, source: std::io::Error },
    #[error("{url} is larger than {limit} bytes")]
    TooLarge { url: String, limit: u64 },
}

/// Where slugs go.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    blobs: Client,
    controller: Client,
    token: Option<String>,
}

impl Store {
    pub(crate) fn new(config: &Config) -> Result<Self, ClientError> {
        let token = config.key.starts_with(TOKEN).then(|| config.key.clone());
        let client = |url: &str| {
            let builder = Client::builder(url).retry_for(RETRY_FOR);
            let builder = if token.is_some() { builder } else { builder.key(&config.key) };
            builder.build()
        };
        let (blobs, controller) = (client(&config.blobstore_url)?, client(&config.controller_url)?);
        Ok(Self { blobs, controller, token })
    }

    fn request(&self, method: Method, url: &str) -> Result<Request, ClientError> {
        let request = Request::new(method, url);
        match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, &format!("Bearer {token}")),
            None => Ok(request),
        }
    }

    /// Whether a blob is there.
    pub(crate) async fn has(&self, url: &str) -> Result<bool, StoreError> {
        match self.blobs.send(self.request(Method::HEAD, url)?).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a blob into a file; false when there is none.
    pub(crate) async fn fetch(&self, url: &str, to: &Path, limit: u64) -> Result<bool, StoreError> {
        let response = match self.blobs.send(self.request(Method::GET, url)?).await {
            Ok(response) => response,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let failed = |source| StoreError::File { path: to.to_owned(), source };
        let mut file = File::create(to).await.map_err(failed)?;
        let mut pieces = std::pin::pin!(response.into_stream(Some(SILENCE)));
        let mut size = 0;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            size += piece.len() as u64;
            if size > limit {
                return Err(StoreError::TooLarge { url: url.to_owned(), limit });
            }
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        Ok(true)
    }

    /// Stores a file, three times if need be.
    pub(crate) async fn put_file(&self, url: &str, file: &Path) -> Result<(), StoreError> {
        let seed = u64::from(std::process::id());
        let mut pause = Backoff::new(Duration::from_millis(500), Duration::from_secs(5), seed);
        loop {
            match self.put_once(url, file).await {
                Err(error @ StoreError::Http(_)) if pause.attempts() + 1 < ATTEMPTS => {
                    tracing::info!(%error, "an upload failed and is tried again");
                    tokio::time::sleep(pause.next_delay()).await;
                }
                result => return result,
            }
        }
    }

    async fn put_once(&self, url: &str, file: &Path) -> Result<(), StoreError> {
        let failed = |source| StoreError::File { path: file.to_owned(), source };
        let open = File::open(file).await.map_err(failed)?;
        let request = self
            .request(Method::PUT, url)?
            .header(header::CONTENT_TYPE, "application/octet-stream")?
            .body_stream(ReaderStream::with_capacity(open, 256 << 10))
            .timeout(UPLOAD_TIMEOUT);
        Ok(self.blobs.send(request).await.map(drop)?)
    }

    /// Stores the manifest, then has the controller know the artifact.
    pub(crate) async fn publish(&self, image: crate::image::Image) -> Result<(), StoreError> {
        let put = self.request(Method::PUT, &image.manifest_url)?.body(image.manifest);
        self.blobs.send(put.header(header::CONTENT_TYPE, "application/json")?).await?;
        let post = self.request(Method::POST, "/artifacts")?.json(&image.artifact)?;
        let _: Artifact = self.controller.call(post).await?;
        Ok(())
    }
}
