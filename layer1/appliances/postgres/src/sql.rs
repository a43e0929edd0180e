//! Questions and orders to the local server, over its unix socket as the superuser `postgres`.

use std::time::Duration;

use kit_tasks::Tasks;
use tokio_postgres::{Client, Config, NoTls};

/// Longest wait for a connection or an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why the server was not asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqlError {
    /// It did not answer in time.
    #[error("no answer within {TIMEOUT:?}")]
    Timeout,
    /// It refused.
    #[error("the server refused")]
    Server(#[from] tokio_postgres::Error),
}

/// How the server is, as the peer's status shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Position in the log, `hex/hex`.
    pub xlog: String,
    /// The platform's account exists.
    pub user_exists: bool,
    /// Takes writes.
    pub read_write: bool,
}

/// Connects over the socket in `socket_dir`.
pub(crate) async fn connect(
    tasks: &Tasks,
    socket_dir: &str,
    port: u16,
) -> Result<Client, SqlError> {
    let mut config = Config::new();
    config.host_path(socket_dir).port(port).user("postgres").dbname("postgres");
    config.connect_timeout(TIMEOUT).application_name("flynn-postgres");
    let (client, connection) = within(config.connect(NoTls)).await?;
    tasks.spawn_until_stop("postgres-connection", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the local server ended");
        }
    });
    Ok(client)
}

/// Makes the platform's superuser, or gives it this password. The password is sent as a SCRAM
/// verifier made by the server: the statement is not logged at the default settings.
pub(crate) async fn ensure_platform_user(client: &Client, password: &str) -> Result<(), SqlError> {
    let exists =
        within(client.query_opt("SELECT 1 FROM pg_roles WHERE rolname = 'flynn'", &[])).await?;
    let verb = if exists.is_some() { "ALTER" } else { "CREATE" };
    let attributes = "SUPERUSER CREATEDB CREATEROLE REPLICATION LOGIN";
    let password = literal(password);
    let order = format!("{verb} ROLE flynn WITH {attributes} PASSWORD {password}");
    within(client.batch_execute(&order)).await
}

/// Asks how the server is.
pub(crate) async fn report(client: &Client) -> Result<Report, SqlError> {
    let question = "SELECT pg_current_wal_lsn()::text, \
                    EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'flynn'), \
                    current_setting('default_transaction_read_only') = 'off'";
    let row = within(client.query_one(question, &[])).await?;
    Ok(Report { xlog: row.get(0), user_exists: row.get(1), read_write: row.get(2) })
}

/// A text as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

async fn within<T>(
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SqlError> {
    let answer = tokio::time::timeout(TIMEOUT, work).await.map_err(|_| SqlError::Timeout)?;
    Ok(answer?)
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn a_quote_cannot_end_a_literal() {
        assert_eq!(literal("it's"), "'it''s'");
    }
}
