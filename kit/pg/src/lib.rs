//! PostgreSQL as every component uses it: settings, a bounded pool, migrations, notifications, and
//! errors sorted by what a caller can do about them. No queries; those belong to their component.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod error;
mod listen;
mod migrate;
mod pool;
mod settings;
#[cfg(any(test, feature = "test-server"))]
pub mod test_server;

pub use error::PgError;
pub use listen::{Listener, listen};
pub use migrate::{MigrateError, Migrations, migrate};
pub use pool::{Client, DEFAULT_SIZE, Pool, Transaction, snapshot};
pub use settings::{Settings, SettingsError};

pub use deadpool_postgres::GenericClient;
pub use tokio_postgres::Row;
pub use tokio_postgres::types::{FromSql, Json, ToSql};
