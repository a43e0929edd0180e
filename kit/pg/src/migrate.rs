//! Brings a database's schema to what this build expects, once, whoever comes first.

use refinery::{Migration, Runner};

use crate::error::PgError;
use crate::settings::Settings;

/// Migrations in order: a name of the form `V1__what_it_does` and its SQL.
pub type Migrations = &'static [(&'static str, &'static str)];

/// Serializes the migrations of all instances of a component on one database.
const LOCK: i64 = 0x666c_796e_6e00;

/// Why a schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database failed; trying again later may help.
    #[error("the schema could not be brought up to date")]
    Database(#[from] PgError),
    /// A migration failed, or one that was applied differs from ours. Trying again does not help.
    #[error("a migration failed")]
    Migration(#[source] Box<refinery::Error>),
    /// Nobody can read the name of a migration of ours.
    #[error("migration {0} is misnamed")]
    Name(&'static str),
}

/// Applies what is missing, on a connection of its own, under a lock that other instances wait for.
///
/// # Errors
/// When the database cannot be reached or a migration fails. What was applied stays applied.
pub async fn migrate(settings: &Settings, migrations: Migrations) -> Result<(), MigrateError> {
    let runner = runner(migrations)?;
    let (mut client, connection) = settings.connect().await?;
    let work = async move {
        // A migration may rightly take longer than a request's query. The lock goes with the connection.
        client.batch_execute("SET statement_timeout = '10min'").await.map_err(PgError::from)?;
        client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(PgError::from)?;
        let report = runner.run_async(&mut client).await;
        let report = report.map_err(|error| MigrateError::Migration(Box::new(error)))?;
        for applied in report.applied_migrations() {
            tracing::info!(migration = %applied, "schema migrated");
        }
        Ok(())
    };
    tokio::select! {
        done = work => done,
        broken = connection => match broken {
            Err(error) => Err(PgError::from(error).into()),
            Ok(()) => Err(PgError::Unavailable(None).into()),
        },
    }
}

fn runner(migrations: Migrations) -> Result<Runner, MigrateError> {
    let read = |(name, sql): &(&'static str, &str)| {
        Migration::unapplied(name, sql).map_err(|_| MigrateError::Name(name))
    };
    let migrations: Vec<_> = migrations.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Runner::new(&migrations))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::TestDatabase;

    const FIRST: Migrations = &[("V1__one", "CREATE TABLE one (n int)")];
    const BOTH: Migrations =
        &[("V1__one", "CREATE TABLE one (n int)"), ("V2__two", "CREATE TABLE two (n int)")];
    const CHANGED: Migrations = &[("V1__one", "CREATE TABLE other (n int)")];

    #[tokio::test]
    async fn migrations_run_once_and_in_order_whoever_comes_first() {
        let database = TestDatabase::create().await;
        let settings = database.settings();
        migrate(settings, FIRST).await.unwrap();
        let (a, b) = tokio::join!(migrate(settings, BOTH), migrate(settings, BOTH));
        a.unwrap();
        b.unwrap();
        let client = database.pool().client().await.unwrap();
        client.execute("INSERT INTO two SELECT 1", &[]).await.unwrap();
        let error = migrate(settings, CHANGED).await.unwrap_err();
        assert!(matches!(error, MigrateError::Migration(_)), "{error:?}");
    }
}
