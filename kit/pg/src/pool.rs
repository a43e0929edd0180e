//! A bounded pool of connections that are made when they are needed and thrown away when they broke.

use std::time::Duration;

use deadpool_postgres::{ManagerConfig, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::{IsolationLevel, NoTls};

use crate::error::PgError;
use crate::settings::Settings;

/// Connections of one process, unless it says otherwise: PostgreSQL's own limit is 100 for all.
pub const DEFAULT_SIZE: usize = 20;

/// How long a caller waits for a free connection.
const WAIT: Duration = Duration::from_secs(10);
/// How long a new connection may take, name resolution included.
const CREATE: Duration = Duration::from_secs(6);

/// A pooled connection; goes back when dropped.
pub type Client = deadpool_postgres::Client;

/// A transaction on a pooled connection; rolled back when dropped.
pub type Transaction<'a> = deadpool_postgres::Transaction<'a>;

/// A transaction that only reads, and whose queries all see the same moment.
///
/// # Errors
/// When the database cannot be reached.
pub async fn snapshot(client: &mut Client) -> Result<Transaction<'_>, PgError> {
    let builder = client.build_transaction();
    Ok(builder.isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?)
}

/// Connections to one database. Cheap to clone. Nothing is dialled before it is needed, and a broken
/// connection is replaced at its next use.
#[derive(Clone)]
pub struct Pool {
    pool: deadpool_postgres::Pool,
}

impl Pool {
    /// A pool of at most `size` connections.
    ///
    /// # Errors
    /// Never for a size above zero.
    pub fn new(settings: &Settings, size: usize) -> Result<Self, PgError> {
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager =
            deadpool_postgres::Manager::from_config(settings.config().clone(), NoTls, config);
        let timeouts = Timeouts { wait: Some(WAIT), create: Some(CREATE), recycle: Some(CREATE) };
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .timeouts(timeouts)
            .build();
        pool.map(|pool| Self { pool }).map_err(|_| PgError::Unavailable(None))
    }

    /// A connection.
    ///
    /// # Errors
    /// When none is free in time or the database cannot be reached.
    pub async fn client(&self) -> Result<Client, PgError> {
        Ok(self.pool.get().await?)
    }

    /// Throws all idle connections away, as after a failover.
    pub fn clear(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self) -> Result<(), PgError> {
        let client = self.client().await?;
        client.simple_query("SELECT 1").await?;
        Ok(())
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}
