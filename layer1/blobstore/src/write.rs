//! PUT and DELETE: whole files, appended files, copies; with `If-Match` or `If-None-Match: *` only in
//! place of the file the client saw.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha512, Sha512_256};

use crate::access;
use crate::catalogue::{self, Before, File, NewFile};
use crate::contents::{CHUNK, ContentsError, Writer};
use crate::server::{Failure, Store};

/// How a PUT fills a file.
enum Filling {
    /// With the body.
    Replace,
    /// With what the file has, then the body.
    Append(File),
    /// With another file.
    Copy(File),
}

/// Stores a file; it is visible when this answers.
pub(crate) async fn put(
    store: &Store,
    headers: &HeaderMap,
    name: &str,
    body: Body,
) -> Result<Response, Failure> {
    let filling = filling(store, headers, name).await?;
    let seen = seen(store, headers, name).await?;
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = match &filling {
        Filling::Replace => given.to_owned(),
        Filling::Append(file) | Filling::Copy(file) => file.content_type.clone(),
    };
    let mut upload = Upload::new(store.contents.create(store.backend).await?, store.max_size);
    let stored = fill(store, &mut upload, &filling, body).await;
    if let Err(failure) = stored {
        upload.abandon(store).await;
        return Err(failure);
    }
    if access::digest(name).is_some_and(|digest| digest != upload.content_digest()) {
        upload.abandon(store).await;
        return Err(Failure::Digest);
    }
    let before = match (&seen, &filling) {
        (Some(seen), _) => *seen,
        (None, Filling::Replace) => Before::Anything,
        (None, Filling::Append(file)) => Before::File(file.id),
        (None, Filling::Copy(_)) => Before::Nothing,
    };
    let refused = if seen.is_some() { Failure::Changed } else { Failure::Conflict };
    let sha512 = upload.hash.clone().finalize();
    let new = NewFile {
        id: upload.writer.id,
        backend: upload.writer.backend,
        name,
        content_type: &content_type,
        size: upload.size,
        sha512: &sha512,
    };
    match catalogue::swap(&store.pool, &new, before).await {
        Ok(true) => Ok(StatusCode::OK.into_response()),
        Ok(false) => {
            upload.abandon(store).await;
            Err(refused)
        }
        // The swap may have been done; the sweep finds out what belongs to nobody.
        Err(error) => Err(error.into()),
    }
}

/// What the client says it saw under this name, if it says so.
async fn seen(store: &Store, headers: &HeaderMap, name: &str) -> Result<Option<Before>, Failure> {
    let text = |key| headers.get(key).map(|value: &axum::http::HeaderValue| value.to_str());
    match (text(IF_MATCH), text(IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (None, Some(Ok("*"))) => match catalogue::find(&store.pool, name).await? {
            None => Ok(Some(Before::Nothing)),
            Some(_) => Err(Failure::Changed),
        },
        (Some(Ok(tags)), None) => {
            let file = catalogue::find(&store.pool, name).await?.ok_or(Failure::Changed)?;
            let tag = crate::read::tag(&file);
            let is_it = tags.split(',').any(|one| one.trim() == "*" || one.trim() == tag);
            if is_it { Ok(Some(Before::File(file.id))) } else { Err(Failure::Changed) }
        }
        (_, Some(_)) | (Some(Err(_)), None) => Err(Failure::BadRequest),
    }
}

/// Takes a file and everything below it away. Names are taken literally.
pub(crate) async fn delete(store: &Store, name: &str) -> Result<Response, Failure> {
    catalogue::delete(&store.pool, name).await?;
    Ok(StatusCode::OK.into_response())
}

async fn filling(store: &Store, headers: &HeaderMap, name: &str) -> Result<Filling, Failure> {
    let text = |key: &str| headers.get(key).map(|value| value.to_str().unwrap_or_default());
    if let Some(source) = text("Blobstore-Copy-From") {
        let file = catalogue::find(&store.pool, source).await?.ok_or(Failure::NotFound)?;
        return Ok(Filling::Copy(file));
    }
    let offset: i64 = match text("Blobstore-Offset") {
        None => 0,
        Some(offset) => offset.trim().parse().map_err(|_| Failure::BadRequest)?,
    };
    if offset <= 0 {
        return Ok(Filling::Replace);
    }
    let file = catalogue::find(&store.pool, name).await?.ok_or(Failure::Conflict)?;
    let fits = u64::try_from(offset).is_ok_and(|offset| offset == file.size);
    if fits { Ok(Filling::Append(file)) } else { Err(Failure::Conflict) }
}

async fn fill(
    store: &Store,
    upload: &mut Upload,
    filling: &Filling,
    body: Body,
) -> Result<(), Failure> {
    if let Filling::Append(file) | Filling::Copy(file) = filling {
        let bytes = store.contents.read(file.id, &file.backend, 0, file.size);
        let mut bytes = std::pin::pin!(bytes);
        while let Some(piece) = bytes.next().await {
            upload.write(piece?).await?;
        }
    }
    if !matches!(filling, Filling::Copy(_)) {
        let mut body = body.into_data_stream();
        while let Some(piece) = body.next().await {
            // A client that went away: nothing is to be answered.
            upload.write(piece.map_err(|_| Failure::BadRequest)?).await?;
        }
    }
    upload.finish().await
}

/// A file on its way in: collects chunks, counts, hashes.
struct Upload {
    writer: Writer,
    hash: Sha512,
    /// The digest of names, which starts from other values.
    name_hash: Sha512_256,
    size: u64,
    max_size: u64,
    waiting: BytesMut,
}

impl Upload {
    fn new(writer: Writer, max_size: u64) -> Self {
        let (hash, name_hash) = (Sha512::new(), Sha512_256::new());
        Self { writer, hash, name_hash, size: 0, max_size, waiting: BytesMut::new() }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.size += bytes.len() as u64;
        if self.size > self.max_size {
            return Err(Failure::TooLarge);
        }
        self.hash.update(&bytes);
        self.name_hash.update(&bytes);
        self.waiting.extend_from_slice(&bytes);
        while self.waiting.len() >= CHUNK {
            let chunk = self.waiting.split_to(CHUNK);
            self.writer.write(&chunk).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Failure> {
        let rest = self.waiting.split();
        if !rest.is_empty() {
            self.writer.write(&rest).await?;
        }
        Ok(self.writer.finish().await?)
    }

    fn content_digest(&self) -> String {
        format!("{:x}", self.name_hash.clone().finalize())
    }

    /// Removes what was written. Failing that, the sweep does.
    async fn abandon(self, store: &Store) {
        let backend = self.writer.backend.as_str();
        let removed: Result<(), ContentsError> =
            store.contents.remove(self.writer.id, backend).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "an abandoned upload stays until the next sweep");
        }
    }
}
