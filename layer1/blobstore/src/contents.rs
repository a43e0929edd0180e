//! Where the bytes are: rows of PostgreSQL, or files of a directory. By id, never by name.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use kit_pg::{PgError, Pool};
use tokio::fs;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use uuid::Uuid;

/// Bytes of one row, one read, one write.
pub(crate) const CHUNK: usize = 1 << 20;

/// A kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Rows of PostgreSQL.
    Postgres,
    /// Files of a directory.
    Fs,
}

impl Backend {
    /// The name in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Fs => "fs",
        }
    }
}

/// Why contents cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentsError {
    #[error("the database failed")]
    Database(#[from] PgError),
    #[error("{doing} failed in the blob directory")]
    File {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("file {0} is cut short")]
    Cut(Uuid),
    #[error("file {id} is kept by backend {backend:?}, which is not configured")]
    NotHere { id: Uuid, backend: String },
}

/// The places of one server: rows always, a directory where one is configured.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pool: Pool,
    dir: Option<PathBuf>,
}

impl Contents {
    pub(crate) fn new(pool: Pool, dir: Option<PathBuf>) -> Self {
        Self { pool, dir }
    }

    /// A new file's writer.
    pub(crate) async fn create(&self, backend: Backend) -> Result<Writer, ContentsError> {
        let id = Uuid::new_v4();
        let sink = match (backend, &self.dir) {
            (Backend::Fs, Some(dir)) => {
                let path = path_of(dir, id);
                let parent = path.parent().unwrap_or(dir);
                fs::create_dir_all(parent).await.map_err(file_error("making a directory"))?;
                let file = fs::File::create(&path).await.map_err(file_error("making a file"))?;
                Sink::Fs { file, path }
            }
            (Backend::Fs, None) => {
                return Err(ContentsError::NotHere { id, backend: "fs".to_owned() });
            }
            (Backend::Postgres, _) => Sink::Postgres { pool: self.pool.clone() },
        };
        Ok(Writer { id, backend, at: 0, sink })
    }

    /// The bytes of `id` from `from` on, `length` of them.
    pub(crate) fn read(
        &self,
        id: Uuid,
        backend: &str,
        from: u64,
        length: u64,
    ) -> impl Stream<Item = Result<Bytes, ContentsError>> + Send + use<> {
        let source = match (backend, &self.dir) {
            ("postgres", _) => Source::Postgres(self.pool.clone()),
            ("fs", Some(dir)) => Source::Fs { path: path_of(dir, id), file: None },
            _ => Source::Nowhere(backend.to_owned()),
        };
        let reader = Reader { id, source, at: from, end: from.saturating_add(length) };
        stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|bytes| (bytes, reader)))
        })
    }

    /// Removes the bytes of `id`; what is gone already is fine.
    pub(crate) async fn remove(&self, id: Uuid, backend: &str) -> Result<(), ContentsError> {
        match (backend, &self.dir) {
            ("postgres", _) => {
                let client = self.pool.client().await?;
                let order = "DELETE FROM file_chunks WHERE file_id = $1";
                client.execute(order, &[&id]).await.map_err(PgError::from)?;
                Ok(())
            }
            ("fs", Some(dir)) => match fs::remove_file(path_of(dir, id)).await {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    Err(file_error("removing a file")(source))
                }
                _ => Ok(()),
            },
            _ => Err(ContentsError::NotHere { id, backend: backend.to_owned() }),
        }
    }
}

impl Contents {
    /// Removes files of the directory that no row names and that are older than `age`.
    pub(crate) async fn remove_strangers(
        &self,
        client: &kit_pg::Client,
        age: std::time::Duration,
    ) -> Result<(), ContentsError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        for (id, path) in old_files(dir, age).await.map_err(file_error("listing"))? {
            let question = "SELECT 1 FROM files WHERE file_id = $1";
            let known = client.query_opt(question, &[&id]).await.map_err(PgError::from)?;
            if known.is_none() {
                fs::remove_file(&path).await.map_err(file_error("removing a file"))?;
            }
        }
        Ok(())
    }
}

async fn old_files(dir: &Path, age: std::time::Duration) -> std::io::Result<Vec<(Uuid, PathBuf)>> {
    let mut found = Vec::new();
    let mut groups = fs::read_dir(dir).await?;
    while let Some(group) = groups.next_entry().await? {
        if !group.file_type().await?.is_dir() {
            continue;
        }
        let mut files = fs::read_dir(group.path()).await?;
        while let Some(file) = files.next_entry().await? {
            let modified = file.metadata().await?.modified()?;
            let is_old = modified.elapsed().is_ok_and(|elapsed| elapsed > age);
            let id = file.file_name().to_str().and_then(|name| name.parse().ok());
            found.extend(id.filter(|_| is_old).map(|id| (id, file.path())));
        }
    }
    Ok(found)
}

fn path_of(dir: &Path, id: Uuid) -> PathBuf {
    let name = id.to_string();
    dir.join(&name[..2]).join(name)
}

fn file_error(doing: &'static str) -> impl FnOnce(std::io::Error) -> ContentsError {
    move |source| ContentsError::File { doing, source }
}

/// Writes one new file.
#[derive(Debug)]
pub(crate) struct Writer {
    pub id: Uuid,
    pub backend: Backend,
    at: u64,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Postgres { pool: Pool },
    Fs { file: fs::File, path: PathBuf },
}

impl Writer {
    /// Appends; at most [`CHUNK`] bytes a call.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), ContentsError> {
        match &mut self.sink {
            Sink::Postgres { pool } => {
                let at = i64::try_from(self.at).unwrap_or(i64::MAX);
                let client = pool.client().await?;
                let order = "INSERT INTO file_chunks (file_id, at, data) VALUES ($1, $2, $3)";
                client.execute(order, &[&self.id, &at, &bytes]).await.map_err(PgError::from)?;
            }
            Sink::Fs { file, .. } => {
                file.write_all(bytes).await.map_err(file_error("writing"))?;
            }
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Makes what was written durable.
    pub(crate) async fn finish(&mut self) -> Result<(), ContentsError> {
        let Sink::Fs { file, path } = &mut self.sink else { return Ok(()) };
        file.sync_all().await.map_err(file_error("making a file durable"))?;
        for dir in path.ancestors().skip(1).take(2) {
            let dir = fs::File::open(dir).await.map_err(file_error("opening a directory"))?;
            dir.sync_all().await.map_err(file_error("making a directory durable"))?;
        }
        Ok(())
    }
}

struct Reader {
    id: Uuid,
    source: Source,
    at: u64,
    end: u64,
}

enum Source {
    Postgres(Pool),
    Fs { path: PathBuf, file: Option<fs::File> },
    Nowhere(String),
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, ContentsError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let (id, at) = (self.id, self.at);
        let mut bytes = match &mut self.source {
            Source::Postgres(pool) => read_row(pool, id, at).await?,
            Source::Fs { path, file } => read_file(path, file, id, at).await?,
            Source::Nowhere(backend) => {
                return Err(ContentsError::NotHere { id, backend: backend.clone() });
            }
        };
        if bytes.is_empty() {
            return Err(ContentsError::Cut(id));
        }
        let wanted = usize::try_from(self.end - at).unwrap_or(usize::MAX);
        bytes.truncate(wanted);
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }
}

/// The bytes from `at` to the end of their row.
async fn read_row(pool: &Pool, id: Uuid, at: u64) -> Result<Bytes, ContentsError> {
    let client = pool.client().await?;
    let question = "SELECT at, data FROM file_chunks WHERE file_id = $1 AND at <= $2 \
                    ORDER BY at DESC LIMIT 1";
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    let row = client.query_opt(question, &[&id, &at]).await.map_err(PgError::from)?;
    let row = row.ok_or(ContentsError::Cut(id))?;
    let (begin, data): (i64, Vec<u8>) = (row.get(0), row.get(1));
    let skip = usize::try_from(at - begin).unwrap_or(usize::MAX).min(data.len());
    Ok(Bytes::from(data).slice(skip..))
}

async fn read_file(
    path: &Path,
    file: &mut Option<fs::File>,
    id: Uuid,
    at: u64,
) -> Result<Bytes, ContentsError> {
    let open = match file {
        Some(open) => open,
        None => {
            let mut opened = fs::File::open(path).await.map_err(|source| {
                let is_gone = source.kind() == std::io::ErrorKind::NotFound;
                if is_gone { ContentsError::Cut(id) } else { file_error("opening a file")(source) }
            })?;
            opened.seek(std::io::SeekFrom::Start(at)).await.map_err(file_error("seeking"))?;
            file.insert(opened)
        }
    };
    let mut buffer = vec![0; 256 << 10];
    let count = open.read(&mut buffer).await.map_err(file_error("reading"))?;
    buffer.truncate(count);
    Ok(Bytes::from(buffer))
}
