//! Databases for apps: made with an owner of their own, dropped with everything in them.

use std::time::Duration;

use kit_http::ApiError;
use kit_tasks::Tasks;
use rand::RngCore as _;
use tokio_postgres::{Client, Config, NoTls};

/// Longest wait for the server; dropping a large database takes a while.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of randomness in a name or password; twice as many characters.
const NAME_BYTES: usize = 16;

/// How the server is reached.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Host, mostly `leader.postgres.discoverd`.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The platform's superuser.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// A text that is never shown.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// One database and its owner.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub user: String,
    pub password: Secret,
    pub name: String,
}

impl Database {
    pub(crate) fn random() -> Self {
        Self { user: random_name(), password: Secret(random_name()), name: random_name() }
    }

    /// The resource's id: `/databases/<user>:<database>`.
    pub(crate) fn id(&self) -> String {
        format!("/databases/{}:{}", self.user, self.name)
    }
}

fn random_name() -> String {
    let mut bytes = [0; NAME_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The user and database of a resource's id. Only names this provisioner makes are accepted, so that
/// no other database can be named.
pub(crate) fn parse_id(id: &str) -> Result<(String, String), ApiError> {
    let names = id.strip_prefix("/databases/").and_then(|names| names.split_once(':'));
    let made_here = |name: &str| {
        name.len() == NAME_BYTES * 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match names {
        Some((user, name)) if made_here(user) && made_here(name) => {
            Ok((user.to_owned(), name.to_owned()))
        }
        _ => Err(ApiError::validation("id", "is invalid")),
    }
}

/// Makes `database`; what was made before a step failed is undone.
pub(crate) async fn create(
    tasks: &Tasks,
    connection: &Connection,
    database: &Database,
) -> Result<(), ApiError> {
    let client = connect(tasks, connection).await?;
    let Database { user, password, name } = database;
    let password = crate::sql::literal(&password.0);
    order(&client, &format!("CREATE ROLE \"{user}\" WITH LOGIN PASSWORD {password}")).await?;
    let made = async {
        order(&client, &format!("CREATE DATABASE \"{name}\" OWNER \"{user}\"")).await?;
        order(&client, &format!("REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC")).await
    };
    let made = made.await;
    if made.is_err() {
        drop(order(&client, &format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await);
        drop(order(&client, &format!("DROP ROLE IF EXISTS \"{user}\"")).await);
    }
    made
}

/// Drops the database and its owner; what is gone already is fine.
pub(crate) async fn drop_database(
    tasks: &Tasks,
    connection: &Connection,
    user: &str,
    name: &str,
) -> Result<(), ApiError> {
    let client = connect(tasks, connection).await?;
    order(&client, &format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await?;
    order(&client, &format!("DROP ROLE IF EXISTS \"{user}\"")).await
}

/// Whether the server answers.
pub(crate) async fn ping(tasks: &Tasks, connection: &Connection) -> Result<(), ApiError> {
    let client = connect(tasks, connection).await?;
    order(&client, "SELECT 1").await
}

async fn connect(tasks: &Tasks, to: &Connection) -> Result<Client, ApiError> {
    let mut config = Config::new();
    config.host(&to.host).port(to.port).user(&to.user).password(&to.password.0);
    config.dbname("postgres").connect_timeout(Duration::from_secs(5));
    config.application_name("flynn-postgres-api");
    let (client, connection) = within(config.connect(NoTls)).await?;
    tasks.spawn_until_stop("provision-connection", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection for provisioning ended");
        }
    });
    Ok(client)
}

async fn order(client: &Client, sql: &str) -> Result<(), ApiError> {
    within(client.batch_execute(sql)).await
}

async fn within<T>(
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::warn!(%error, source = ?std::error::Error::source(&error), "the server refused");
            Err(ApiError::service_unavailable("the database server is not available"))
        }
        Err(_) => Err(ApiError::service_unavailable("the database server did not answer in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_only_databases_made_here() {
        let database = Database::random();
        let names = parse_id(&database.id()).unwrap();
        assert_eq!(names, (database.user, database.name));
        for bad in ["", "/databases/", "/databases/flynn:postgres", "/databases/a\";DROP:b", "x"] {
            let error = parse_id(bad).unwrap_err();
            assert_eq!(error.message, "id is invalid", "{bad}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", Secret("hunter2".to_owned())), "…");
    }
}
