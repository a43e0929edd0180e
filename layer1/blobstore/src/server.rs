//! The server: which request goes where, who may write, and what failures look like on the wire.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kit_auth::Keys;
use kit_backoff::Backoff;
use kit_clock::Clock;
use kit_http::{Query, Status, serve, status_router};
use kit_pg::{MigrateError, Migrations, PgError, Pool, Settings};
use kit_tasks::{Running, Tasks};
use tokio::net::TcpListener;

use crate::contents::{Backend, Contents, ContentsError};
use crate::name::{self, Target};
use crate::{access, read, sweep, write};

const MIGRATIONS: Migrations = &[("V1__files", include_str!("../migrations/V1__files.sql"))];

/// What a blobstore needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The database.
    pub database: Settings,
    /// Where new files go.
    pub backend: Backend,
    /// The directory of the backend `fs`.
    pub directory: Option<PathBuf>,
    /// Who may write. Without a key, everybody who can connect may.
    pub keys: Keys,
    /// The largest file, bytes.
    pub max_size: u64,
    /// Version shown by the status.
    pub version: String,
}

/// What handlers work on.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub pool: Pool,
    pub contents: Contents,
    pub backend: Backend,
    pub max_size: u64,
    keys: Keys,
    clock: Arc<dyn Clock>,
    /// The schema is there.
    ready: Arc<AtomicBool>,
}

/// Starts a blobstore. It listens at once and answers 503 until the database is there.
pub async fn start(
    config: Config,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Running, StartError> {
    let listener = TcpListener::bind(config.listen).await.map_err(StartError::Listen)?;
    let node = tasks.child("blobstore");
    let pool = Pool::new(&config.database, kit_pg::DEFAULT_SIZE)?;
    let store = Store {
        contents: Contents::new(pool.clone(), config.directory),
        pool,
        backend: config.backend,
        max_size: config.max_size,
        keys: config.keys,
        clock,
        ready: Arc::default(),
    };
    prepare(store.clone(), config.database, &node);
    sweep::start(store.clone(), &node);
    let for_health = store.clone();
    let health = move || {
        let store = for_health.clone();
        async move { store.health().await }
    };
    let router = Router::new().fallback(handle).with_state(store);
    let router = status_router(&config.version, health).merge(router);
    serve(&node, listener, router).map_err(StartError::Listen)
}

/// Why a blobstore does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not to be had.
    #[error("cannot listen")]
    Listen(#[source] std::io::Error),
    /// The pool cannot be made.
    #[error("no pool of connections")]
    Pool(#[from] PgError),
}

/// Brings the schema up to date, however long the database takes to come.
fn prepare(store: Store, database: Settings, tasks: &Tasks) {
    tasks.spawn_until_stop("migrate", async move {
        let seed = u64::from(std::process::id());
        let mut pause = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), seed);
        loop {
            match kit_pg::migrate(&database, MIGRATIONS).await {
                Ok(()) => return store.ready.store(true, Ordering::Release),
                Err(error @ MigrateError::Database(_)) => {
                    tracing::info!(%error, "waiting for the database");
                }
                Err(error) => tracing::error!(%error, "the schema is not usable"),
            }
            tokio::time::sleep(pause.next_delay()).await;
        }
    });
}

impl Store {
    async fn health(&self) -> Status {
        match self.pool.check().await {
            Ok(()) if self.ready.load(Ordering::Acquire) => Status::healthy(),
            Ok(()) => Status::unhealthy("the schema is not ready"),
            Err(error) => Status::unhealthy(error.to_string()),
        }
    }

    fn allows(&self, method: &Method, headers: &HeaderMap, name: &str) -> bool {
        access::is_allowed(&self.keys, self.clock.wall(), method, headers, name)
    }
}

#[derive(Debug, Default, serde::Deserialize)]
struct ListQuery {
    #[serde(default)]
    dir: String,
}

async fn handle(
    State(store): State<Store>,
    uri: Uri,
    query: Result<Query<ListQuery>, kit_http::ApiError>,
    request: Request<Body>,
) -> Response {
    let path = decode(uri.path());
    let (parts, body) = request.into_parts();
    let outcome = match name::target(&path) {
        Target::Impossible => Err(Failure::BadRequest),
        Target::Elsewhere(to) => return moved(&to),
        _ if !store.ready.load(Ordering::Acquire) => Err(Failure::Unavailable),
        Target::Root => match parts.method {
            Method::GET => read::list(&store, &query.unwrap_or_default().0.dir).await,
            Method::HEAD => Ok(StatusCode::OK.into_response()),
            _ => return StatusCode::NOT_FOUND.into_response(),
        },
        Target::File(name) => match parts.method {
            Method::GET | Method::HEAD | Method::PUT | Method::DELETE
                if !store.allows(&parts.method, &parts.headers, &name) =>
            {
                Err(Failure::Unauthorized)
            }
            Method::GET | Method::HEAD => {
                read::file(&store, &parts.method, &parts.headers, &name).await
            }
            Method::PUT => write::put(&store, &parts.headers, &name, body).await,
            Method::DELETE => write::delete(&store, &name).await,
            _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
        },
    };
    outcome.unwrap_or_else(IntoResponse::into_response)
}

fn decode(path: &str) -> String {
    let (bytes, mut decoded, mut at) = (path.as_bytes(), Vec::with_capacity(path.len()), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(code)) => {
                decoded.push(code);
                at += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn moved(to: &str) -> Response {
    let status = StatusCode::MOVED_PERMANENTLY;
    match HeaderValue::from_str(to) {
        Ok(location) => (status, [(LOCATION, location)]).into_response(),
        Err(_) => Failure::BadRequest.into_response(),
    }
}

/// An answer of plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))];
    (status, kind, body.into()).into_response()
}

/// Why a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    NotFound,
    BadRequest,
    Conflict,
    /// The file is not what the client saw.
    Changed,
    /// The contents do not have the digest in their name.
    Digest,
    TooLarge,
    Unauthorized,
    Unavailable,
    Internal,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => text(StatusCode::NOT_FOUND, "NotFound\n"),
            Self::BadRequest => text(StatusCode::BAD_REQUEST, "Bad Request\n"),
            Self::Conflict => text(StatusCode::CONFLICT, "Internal Server Error\n"),
            Self::Changed => text(StatusCode::PRECONDITION_FAILED, "Precondition Failed\n"),
            Self::Digest => {
                text(StatusCode::BAD_REQUEST, "the contents do not have the digest in their name\n")
            }
            Self::TooLarge => text(StatusCode::PAYLOAD_TOO_LARGE, "the file is too large\n"),
            Self::Unauthorized => text(StatusCode::UNAUTHORIZED, "a key is needed for this\n"),
            Self::Unavailable => {
                text(StatusCode::SERVICE_UNAVAILABLE, "the database is not available\n")
            }
            Self::Internal => text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n"),
        }
    }
}

impl From<PgError> for Failure {
    fn from(error: PgError) -> Self {
        if error.is_transient() {
            return Self::Unavailable;
        }
        if matches!(error, PgError::Unique { .. }) {
            return Self::Conflict;
        }
        tracing::error!(%error, source = ?std::error::Error::source(&error), "the database refused");
        Self::Internal
    }
}

impl From<ContentsError> for Failure {
    fn from(error: ContentsError) -> Self {
        match error {
            ContentsError::Database(error) => error.into(),
            ContentsError::File { .. } | ContentsError::Cut(_) | ContentsError::NotHere { .. } => {
                tracing::error!(%error, source = ?std::error::Error::source(&error), "contents failed");
                Self::Internal
            }
        }
    }
}
